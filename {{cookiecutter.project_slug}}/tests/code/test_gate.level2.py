"""The gate before the registry: better than no model, and not worse than the champion."""

import numpy as np
import pytest
from mlflow.entities.model_registry import ModelVersion

from {{ cookiecutter.__package }} import metrics, problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.pipeline import gate
from {{ cookiecutter.__package }}.pipeline.gate import Gate
from {{ cookiecutter.__package }}.registry.versions import Champion

NOBODY = Champion(None, None, "there is no champion yet")


def card_with(score, baseline):
    return {"metrics": {problem.METRIC: score, f"baseline_{problem.METRIC}": baseline}}


def worse(score, by):
    """A metric whose loss is so many times that of `score`."""
    lost = metrics.loss(problem.METRIC, score) * by
    return metrics.loss(problem.METRIC, lost)


def test_the_gate_refuses_what_is_hardly_better_than_no_model(dataset):
    baseline = worse(0.5, 1.0)
    with pytest.raises(UserError, match="which needs no model, by 10%"):
        gate.require(card_with(worse(baseline, 0.95), baseline), NOBODY, dataset, Gate(min_improvement=0.1))
    assert "no champion yet" in gate.require(card_with(worse(baseline, 0.85), baseline), NOBODY, dataset, Gate())


def test_the_gate_refuses_what_is_worse_than_the_champion(trained, predictor, dataset, settings):
    _, newest = split(dataset, settings.data.validation_share, settings.data.seed)
    score = trained.card["metrics"][problem.METRIC]
    champion = Champion(ModelVersion("model", "7", 0), predictor, "")
    slightly, clearly = (card_with(worse(score, by), worse(score, 9.0)) for by in (1.01, 1.03))
    assert "against" in gate.require(slightly, champion, newest, Gate(max_regression=0.02))
    with pytest.raises(UserError, match="worse than"):
        gate.require(clearly, champion, newest, Gate(max_regression=0.02))


def test_why_there_is_no_comparison_is_told(dataset):
    unknown = Champion(ModelVersion("model", "7", 0), None, "champion 7 cannot be compared: why")
    told = gate.require(card_with(worse(0.5, 0.5), 0.5), unknown, dataset, Gate())
    assert told.endswith("champion 7 cannot be compared: why")


def test_the_gate_refuses_a_metric_that_is_no_number(dataset):
    with pytest.raises(UserError, match="gate"):
        gate.require(card_with(np.nan, 0.5), NOBODY, dataset, Gate())
