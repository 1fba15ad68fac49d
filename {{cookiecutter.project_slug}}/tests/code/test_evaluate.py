"""How far metrics can be trusted: intervals, folds and parts of the rows."""

import numpy as np
import pytest

from {{ cookiecutter.__package }} import estimators, metrics, problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.base.reports import rounded
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.tracking import store
from {{ cookiecutter.__package }}.training import evaluate


def test_an_interval_is_narrower_the_more_rows_there_are(predictor, dataset):
    scores = predictor.measured(dataset.columns)
    widths = []
    for times in (1, 20):  # the same rows again and again, so that nothing but their number differs
        rows = np.tile(np.arange(len(scores)), times)
        low, high = evaluate.interval(dataset.target[rows], scores[rows], seed=1)[problem.METRIC]
        widths.append(high - low)
    assert 0 < widths[1] < widths[0]


def test_of_very_many_rows_smaller_resamples_give_an_interval_as_wide(predictor, dataset, monkeypatch):
    scores = predictor.measured(dataset.columns)
    widths = []
    for most in (len(scores), len(scores) // 4):
        monkeypatch.setattr(evaluate, "MOST", most)
        low, high = evaluate.interval(dataset.target, scores, seed=1)[problem.METRIC]
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0], rel=0.35)


@pytest.mark.parametrize("folds", [1, -1, 21])
def test_a_number_of_folds_that_makes_no_sense_is_refused_in_one_line(tmp_path, folds):
    (tmp_path / "params.toml").write_text(f"[evaluate]\nfolds = {folds}\n")
    with pytest.raises(UserError, match=rf"params.toml: evaluate.folds = {folds}: "):
        evaluate.Evaluate.load(tmp_path / "params.toml")


def test_folds_are_as_many_as_asked_and_validated_with_what_comes_later(dataset, settings, monkeypatch):
    seen = []
    whole = estimators.fit
    monkeypatch.setattr(
        estimators, "fit", lambda matrix, target, given: seen.append(len(target)) or whole(matrix, target, given)
    )
    linear = settings.model_copy(update={"model": params.Model(estimator="linear")})
    found = evaluate.folds(dataset, linear, 3)
    assert set(found) == {f"cv_{name}{end}" for name in metrics.METRICS[problem.TASK] for end in ("", "_std")}
    assert len(seen) == 3
    assert (seen[0] < 0.6 * seen[-1]) == bool(problem.TIME)
    assert evaluate.folds(dataset, settings, 0) == {}


@pytest.mark.parametrize("feature", problem.SEGMENTS)
def test_the_metrics_of_the_parts_are_those_of_the_whole_put_together(trained, dataset, settings, feature):
    _, newest = split(dataset, settings.data.validation_share, settings.data.seed)
    scores = Predictor(bundle.read(trained.folder)).measured(newest.columns)
    parts = [part for part in evaluate.segments(newest, scores) if part["feature"] == feature]
    if sum(part["rows"] for part in parts) < len(newest):
        pytest.skip("a part has too few rows to tell anything")
    mean = "mae" if problem.TASK == "regression" else "log_loss"
    together = sum(part["metrics"][mean] * part["rows"] for part in parts) / len(newest)
    assert together == pytest.approx(metrics.metrics(newest.target, scores)[mean])


def test_the_run_has_pictures(trained):
    pictures = {file.path for file in store.connect().list_artifacts(trained.run_id, "plots")}
    assert {"plots/importance.png", "plots/partial_dependence.png"} <= pictures
    kinds = {"regression": {"predicted_against_actual"}, "binary": {"roc", "calibration"}}
    assert {f"plots/{name}.png" for name in kinds.get(problem.TASK, ())} <= pictures


def test_figures_for_people_are_rounded_but_never_alike():
    assert rounded([0.00305556, 9.53167, 2013.0, -1234.6, 0.0]) == ["0.00306", "9.53", "2013", "-1235", "0"]
    assert rounded([40.7159, 40.748, 40.7612]) == ["40.7159", "40.748", "40.7612"]
