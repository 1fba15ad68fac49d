"""How sure an answer is: as often as was asked, the truth is inside."""

import math

import mlflow
import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.model import bundle, conformal
from {{ cookiecutter.__package }}.model.bundle import Bundle
from {{ cookiecutter.__package }}.model.conformal import FIELDS, Interval
from {{ cookiecutter.__package }}.registry import model_card
from {{ cookiecutter.__package }}.serving import served_model
from {{ cookiecutter.__package }}.training import train

NUMBER = problem.TASK == "regression"


def world(rows, seed):
    """Truths and what a model says of them; it is sure of some and unsure of others, and one class is rare."""
    rng = np.random.default_rng(seed)
    if NUMBER:
        said = rng.uniform(5, 50, rows)
        return said * rng.lognormal(0, 0.3, rows), said
    shares = rng.dirichlet([6.0, 1.0] if problem.TASK == "binary" else [6.0, 3.0, 1.0], rows)
    target = (rng.random(rows)[:, None] > shares.cumsum(axis=1)).sum(axis=1).clip(0, shares.shape[1] - 1)
    return target.astype(np.float64), shares[:, 1] if problem.TASK == "binary" else shares


def inside(held, target, said):
    if NUMBER:
        low, high = conformal.ends(held, said)
        return (low <= target) & (target <= high)
    return conformal.possible(held, said)[np.arange(len(target)), target.astype(int)]


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_the_truth_is_inside_as_often_as_was_asked_in_each_part(coverage):
    held = conformal.fitted(*world(20_000, 1), coverage)
    target, said = world(20_000, 2)
    parts = np.searchsorted(held["edges"], said) if NUMBER else target
    found = inside(held, target, said)
    for part in np.unique(parts):
        rows = parts == part
        chance = 4 * math.sqrt(coverage * (1 - coverage) / rows.sum() * 2)
        assert found[rows].mean() > coverage - chance, part
        # The most probable class is always in, so that what is easy to tell is inside more often.
        assert not NUMBER or found[rows].mean() < coverage + chance + 0.01, part


def test_what_was_measured_on_few_rows_holds_on_many():
    inside_of_few, _ = conformal.tried(*world(2_000, 3), 0.9)
    held = conformal.fitted(*world(2_000, 3), 0.9)
    assert inside_of_few.mean() == pytest.approx(inside(held, *world(20_000, 4)).mean(), abs=0.04)


@pytest.mark.skipif(not NUMBER, reason="a class has no distance")
def test_answers_that_are_all_too_high_have_their_truth_inside_too():
    target, said = world(4_000, 7)
    for far in (0.0, 30.0, 300.0):
        held = conformal.fitted(target, said + far, 0.9)
        low, high = conformal.ends(held, said + far)
        assert ((low <= target) & (target <= high)).mean() > 0.88


@pytest.mark.skipif(problem.TASK != "binary", reason="only a probability has a threshold")
def test_the_class_that_is_answered_is_among_those_that_cannot_be_ruled_out(sure):
    predictor = conformal.predictor(sure)
    predictor._decision = dict.fromkeys(predictor._decision, 0.05)
    answers = predictor.answers(np.linspace(0, 1, 200, dtype=np.float32))
    for said, names in zip(answers[problem.TARGET].tolist(), answers["prediction_set"].tolist(), strict=True):
        assert not isinstance(said, bool) or str(said).lower() in names.split(",")


def test_too_few_rows_are_told_in_a_line():
    with pytest.raises(UserError, match=r"interval.coverage: 8 validation rows"):
        conformal.tried(*world(8, 6), 0.9)


def test_what_is_harder_to_say_has_more_room():
    if NUMBER:
        low, high = conformal.ends(conformal.fitted(*world(5_000, 5), 0.9), np.array([6.0, 49.0]))
        assert 0 < (high - low)[0] < (high - low)[1] / 3
    else:
        held = conformal.fitted(*world(5_000, 5), 0.9)
        sure, unsure = np.eye(2 if problem.TASK == "binary" else 3)[:1], None
        unsure = np.full_like(sure, 1 / sure.shape[1])
        scores = np.concatenate([sure, unsure])
        found = conformal.possible(held, scores[:, 1] if problem.TASK == "binary" else scores).sum(axis=1)
        assert found[0] == 1 < found[1]


def test_from_too_few_rows_nothing_is_ruled_out():
    target, said = world(8, 6)
    held = conformal.fitted(target, said, 0.9)
    if NUMBER:
        low, high = conformal.ends(held, np.array([target.mean()]))
        assert (low[0], high[0]) == (target.min(), target.max())
    else:
        assert conformal.possible(held, said).all()


@pytest.fixture(scope="module")
def sure_run(dataset, settings, tmp_path_factory):
    """A training with `coverage = 0.9`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conformal.Interval, "load", lambda: Interval(coverage=0.9))
        return train.train(dataset, settings, tmp_path_factory.mktemp("sure") / "model")


@pytest.fixture(scope="module")
def sure(sure_run):
    """Its model."""
    return bundle.read(sure_run.folder)


def test_answers_have_their_interval_and_are_inside(sure, dataset, settings):
    _, newest = split(dataset, settings.data.validation_share, settings.data.seed)
    predictor = served_model.build(sure)
    answers = predictor.predict(newest.columns)
    assert set(FIELDS) < set(predictor.fields)
    if NUMBER:
        said = answers[problem.TARGET]
        assert (answers["low"] <= said).all()
        assert (said <= answers["high"]).all()
        assert (answers["low"] < answers["high"]).mean() > 0.9
    came = newest.target.tolist()
    if problem.TASK == "multiclass":
        whole = np.eye(sure.card["classes"], dtype=np.float32)
        came = problem.answer(whole, **settings.decision)[problem.TARGET][newest.target.astype(int)].tolist()
    if NUMBER:
        held = (answers["low"] <= newest.target) & (newest.target <= answers["high"])
    else:
        named = came if problem.TASK == "multiclass" else [str(each == 1).lower() for each in came]
        held = [name in said.split(",") for name, said in zip(named, answers["prediction_set"].tolist(), strict=True)]
    assert 0.88 < np.mean(held) <= 1


def test_mlflow_s_own_servers_answer_with_the_interval_too(sure_run, sure, dataset):
    few = dataset.take(slice(5)).columns
    loaded = mlflow.pyfunc.load_model(sure_run.model_uri)
    answers, expected = loaded.predict(pd.DataFrame(dict(few))), conformal.predictor(sure).predict(few)
    for name in FIELDS:
        assert answers[name].notna().all()
        assert answers[name].tolist() == expected[name].tolist()
    assert set(FIELDS) < set(loaded.metadata.signature.outputs.input_names())


def test_the_card_tells_what_was_measured(sure):
    assert 0.8 < sure.card["metrics"]["interval_coverage"] <= 1
    assert all("coverage" in part["metrics"] for part in sure.card["segments"])
    assert "90.0% of the truths are to be inside" in model_card.markdown(sure.card)
    assert any("inside their answer's interval" in line for line in train.verdict(sure.card))


def test_a_model_that_was_made_without_answers_as_ever(trained):
    found = bundle.read(trained.folder)
    if "conformal" not in found.card:
        assert not set(FIELDS) & set(served_model.build(found).predict(few(found)))


def test_beside_one_that_knows_a_model_says_that_it_does_not(trained, sure):
    found = bundle.read(trained.folder)
    without = Bundle(
        found.graph, {name: each for name, each in found.card.items() if name != "conformal"}, found.extras
    )
    answers = conformal.predictor(without, sure).predict(few(found))
    assert all(value is None or np.isnan(value) for name in FIELDS for value in answers[name].tolist())


def few(found):
    from {{ cookiecutter.__package }}.data import schema
    from {{ cookiecutter.__package }}.model.predictor import RECORDS

    return schema.columns(RECORDS.validate_python(found.card["golden"]["records"], strict=False))


@pytest.mark.parametrize("coverage", [1, -0.1, 90])
def test_a_coverage_that_makes_no_sense_is_refused_in_one_line(tmp_path, coverage):
    (tmp_path / "params.toml").write_text(f"[interval]\ncoverage = {coverage}\n")
    with pytest.raises(UserError, match=r"params.toml: interval.coverage = "):
        Interval.load(tmp_path / "params.toml")
