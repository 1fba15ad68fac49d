"""The gate before the registry: better than no model, and not worse than the champion."""

import numpy as np
import pytest
from mlflow.entities.model_registry import ModelVersion

from {{ cookiecutter.__package }} import metrics, problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.model.bundle import MismatchError, ModelError
from {{ cookiecutter.__package }}.pipeline import gate, run
from {{ cookiecutter.__package }}.pipeline.gate import Gate


def card_with(score, baseline):
    return {"metrics": {problem.METRIC: score, f"baseline_{problem.METRIC}": baseline}}


def worse(score, by):
    """A metric whose loss is so many times that of `score`."""
    lost = metrics.loss(problem.METRIC, score) * by
    return metrics.loss(problem.METRIC, lost)


def test_the_gate_refuses_what_is_hardly_better_than_no_model(dataset):
    baseline = worse(0.5, 1.0)
    with pytest.raises(UserError, match="which needs no model, by 10%"):
        gate.require(card_with(worse(baseline, 0.95), baseline), None, dataset, Gate(min_improvement=0.1))
    assert "no champion yet" in gate.require(card_with(worse(baseline, 0.85), baseline), None, dataset, Gate())


def test_the_gate_refuses_what_is_worse_than_the_champion(trained, predictor, dataset, settings):
    _, newest = split(dataset, settings.data.validation_share, settings.data.seed)
    score = trained.card["metrics"][problem.METRIC]
    slightly, clearly = (card_with(worse(score, by), worse(score, 9.0)) for by in (1.01, 1.03))
    assert "against" in gate.require(slightly, predictor, newest, Gate(max_regression=0.02))
    with pytest.raises(UserError, match="worse than"):
        gate.require(clearly, predictor, newest, Gate(max_regression=0.02))


def test_a_champion_that_cannot_be_had_stops_the_pipeline_and_one_of_other_features_does_not(monkeypatch):
    monkeypatch.setattr(run.versions, "champion", lambda: ModelVersion("model", "7", 0))

    def gone(uri):
        raise ModelError("the artifact store is away")

    monkeypatch.setattr(run.fetch, "folder", gone)
    with pytest.raises(ModelError, match="the artifact store is away"):
        run._champion()

    def other(uri):
        raise MismatchError("this model is for other features")

    monkeypatch.setattr(run.fetch, "folder", other)
    assert run._champion() == (None, "champion 7 cannot be compared: this model is for other features")


def test_why_there_is_no_comparison_is_told(dataset):
    told = gate.require(card_with(worse(0.5, 0.5), 0.5), None, dataset, Gate(), "champion 7 cannot be compared: why")
    assert told.endswith("champion 7 cannot be compared: why")


def test_the_gate_refuses_a_metric_that_is_no_number(dataset):
    with pytest.raises(UserError, match="gate"):
        gate.require(card_with(np.nan, 0.5), None, dataset, Gate())
