"""Metrics against values worked out by hand, and what is said of a model that is worth nothing."""

import numpy as np
import pytest
from records import several

from {{ cookiecutter.__package }} import metrics, problem
from {{ cookiecutter.__package }}.data.schema import columns
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.model.bundle import Bundle, ModelError
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.training import train


def test_metrics_are_those_of_the_textbook(monkeypatch):
    actual = np.array([10.0, 20.0])
    monkeypatch.setattr(problem, "TASK", "regression")
    assert metrics.metrics(actual, np.array([13.0, 16.0])) == pytest.approx({"rmse": np.sqrt((9 + 16) / 2), "mae": 3.5})
    monkeypatch.setattr(problem, "TASK", "binary")
    found = metrics.metrics(np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.8, 0.4, 0.4]))
    assert found["roc_auc"] == pytest.approx(3.5 / 4)
    assert found["brier"] == pytest.approx((0.01 + 0.04 + 0.36 + 0.16) / 4)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.6]).mean())
    monkeypatch.setattr(problem, "TASK", "multiclass")
    found = metrics.metrics(np.array([0.0, 1.0, 2.0]), np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.8, 0.2]).mean())


@pytest.mark.filterwarnings("error")
def test_a_graph_s_float32_probabilities_are_no_reason_for_a_warning(monkeypatch):
    actual = np.arange(900) % 3
    shares = np.exp(np.random.default_rng(0).normal(size=(900, 3))).astype(np.float32)
    shares /= shares.sum(axis=1, keepdims=True)
    monkeypatch.setattr(problem, "TASK", "multiclass")
    expected = -np.log(shares[np.arange(900), actual]).mean()
    assert metrics.metrics(actual, shares)["log_loss"] == pytest.approx(expected, 1e-5)
    monkeypatch.setattr(problem, "TASK", "binary")
    beyond = np.where(actual == 1, np.float32(1.0000001), np.float32(0))
    assert metrics.metrics((actual == 1).astype(float), beyond)["log_loss"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "name", "value", "lost"),
    [("regression", "rmse", 3.0, 3.0), ("binary", "roc_auc", 0.8, 0.2), ("multiclass", "accuracy", 1.0, 0.0)],
)
def test_of_a_loss_less_is_better_whatever_the_metric(task, name, value, lost, monkeypatch):
    monkeypatch.setattr(problem, "TASK", task)
    assert metrics.loss(name, value) == pytest.approx(lost)


def test_the_metric_is_that_of_the_packaged_model_on_the_validation_rows(trained, predictor, dataset, settings):
    _, newest = split(dataset, settings.data.validation_share, settings.data.seed)
    again = metrics.metrics(newest.target, predictor.measured(newest.columns))
    assert {name: trained.card["metrics"][name] for name in again} == pytest.approx(again, abs=1e-9)


def test_the_baseline_knows_nothing_but_the_training_target(trained, dataset, settings):
    older, newest = split(dataset, settings.data.validation_share, settings.data.seed)
    said = np.full(len(newest), older.target.mean())
    if problem.TASK != "multiclass":
        expected = metrics.metrics(newest.target, said)
        assert {name: trained.card["metrics"][f"baseline_{name}"] for name in expected} == pytest.approx(expected)


def test_a_model_that_is_worth_nothing_is_said_to_be(trained):
    score = trained.card["metrics"][f"baseline_{problem.METRIC}"]
    poor = {**trained.card, "metrics": {**trained.card["metrics"], problem.METRIC: score}}
    assert "no better than no model" in list(train.verdict(poor))[-1]
    assert len(list(train.verdict(trained.card))) == 1


def test_a_setting_that_the_answer_does_not_know_is_named(trained):
    kept = bundle.read(trained.folder)
    with pytest.raises(ModelError, match="decision"):
        Predictor(Bundle(kept.graph, {**kept.card, "decision": {"treshold": 0.3}}))


def test_one_record_and_many_get_the_same_scores(predictor):
    made = [problem.Record.model_validate(record, strict=False) for record in several(20)]
    together = predictor.scores(columns(made))
    singly = np.concatenate([predictor.scores(columns([record])) for record in made])
    assert np.array_equal(together, singly)
