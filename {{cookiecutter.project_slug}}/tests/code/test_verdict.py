"""Candidate against champion: better, worse and equal ones, and a champion whose features this code no longer makes."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.pipeline import rival, verdict
from {{ cookiecutter.__package }}.pipeline.verdict import Rules
from {{ cookiecutter.__package }}.registry import versions


@pytest.fixture(scope="session")
def newest(dataset, settings):
    return split(dataset, settings.data.validation_share, settings.data.seed)[1]


@pytest.fixture(scope="session")
def scores(predictor, newest):
    return predictor.measured(newest.columns)


def spoilt(scores, by):
    """Scores of the same rows that are worse: a share of them is another row's."""
    rng = np.random.default_rng(1)
    rows = np.arange(len(scores))
    moved = rng.random(len(scores)) < by
    rows[moved] = rng.permutation(rows[moved])
    return scores[rows]


def judged(newest, ours, theirs, **rules):
    return verdict.compare(newest, ours, theirs, Rules(**rules), seed=1)


def test_one_that_is_better_one_that_is_worse_and_one_that_is_equal(newest, scores):
    worse = spoilt(scores, 0.3)
    assert judged(newest, scores, worse).outcome == "better"
    assert judged(newest, worse, scores).outcome == "worse"
    assert judged(newest, scores, scores).outcome == "undecided"


def test_a_hair_s_breadth_is_undecided_and_how_many_rows_would_decide_is_said(newest, scores):
    rng = np.random.default_rng(3)
    ours, theirs = (scores * (1 + rng.normal(0, 0.02, scores.shape)) for _ in range(2))
    found = judged(newest.take(slice(80)), ours[:80], theirs[:80])
    assert found.outcome == "undecided"
    assert "more rows" in found.why


def test_beyond_the_margin_or_not(newest, scores):
    worse = spoilt(scores, 0.3)
    assert judged(newest, scores, worse, margin=100).outcome == "undecided"


def test_models_that_are_equally_good_are_told_apart_in_few_of_many_tries(newest, scores):
    """Both are the same model with other noise of the same size: a difference is claimed by chance alone."""
    rng = np.random.default_rng(2)
    spread = np.std(scores) / 3
    claimed = 0
    for _ in range(25):
        ours, theirs = (np.clip(scores + rng.normal(0, spread, scores.shape), 0.01, None) for _ in range(2))
        if problem.TASK != "regression":
            ours, theirs = (np.clip(each, 0.001, 0.999) for each in (ours, theirs))
        low, high = verdict.difference(newest.target[:300], ours[:300], theirs[:300], seed=1)
        claimed += low > 0 or high < 0
    assert claimed <= 5


def test_a_segment_that_falls_is_refused_though_the_whole_is_better(newest, scores, monkeypatch):
    feature = problem.SEGMENTS[0]
    label, rows = max(verdict.parts(feature, newest.columns), key=lambda part: part[1].sum())
    ours, theirs = scores.copy(), spoilt(scores, 0.9)
    ours[rows], theirs[rows] = spoilt(scores, 0.9)[rows], scores[rows]
    monkeypatch.setattr(problem, "SEGMENTS", (feature,))
    found = judged(newest, ours, theirs)
    assert found.outcome == "worse"
    assert label in found.why


@pytest.fixture
def registered(trained):
    """A champion in a registry of its own name."""
    return versions.register(trained.model_uri, trained.run_id, "the card")[0]


def test_a_champion_of_other_features_answers_by_its_own_code(registered, predictor, newest, settings):
    theirs = rival.scores(versions.find(str(registered.version)), newest, settings.data)
    assert np.allclose(theirs, predictor.measured(newest.columns))


def test_a_champion_that_cannot_answer_is_named_with_why(registered, newest, settings, tmp_path):
    pyarrow.parquet.write_table(pa.table({"other": range(settings.data.sample_rows)}), tmp_path / "rows.parquet")
    others = dataclasses.replace(newest, name=str(tmp_path / "rows.parquet"))
    with pytest.raises(rival.CannotCompareError, match="own code fails on these rows"):
        rival.scores(versions.find(str(registered.version)), others, settings.data)


@pytest.mark.parametrize("name", ["numpy.py", f"{params.PACKAGE.name}/problem.py", f"{params.PACKAGE.name}/more.py"])
def test_code_that_was_changed_since_the_training_is_not_run(registered, newest, settings, monkeypatch, tmp_path, name):
    fetched = rival.mlflow.artifacts.download_artifacts

    def changed(uri, dst_path):
        folder = Path(fetched(uri, dst_path=dst_path))
        if uri.endswith("/code"):
            (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        return folder

    monkeypatch.setattr(rival.mlflow.artifacts, "download_artifacts", changed)
    with pytest.raises(UserError, match="changed since, and is not run"):
        rival.scores(versions.find(str(registered.version)), newest, settings.data)
    assert not (tmp_path / "ran").exists()


def test_how_long_one_record_takes_is_compared(predictor, newest):
    times, row = verdict.slower(predictor, predictor, newest)
    assert 0.5 < times < 2
    assert row[0] == "one record"


class Slow(Predictor):
    """One that takes six times as long."""

    def predict(self, columns):
        for _ in range(5):
            super().predict(columns)
        return super().predict(columns)


def test_one_that_is_slower_is_told(trained, predictor, newest):
    times, _ = verdict.slower(Slow(bundle.read(trained.folder)), predictor, newest)
    assert times > 1.5
