"""Candidates are trained beside each other, and the best one is registered."""

import pytest

from {{ cookiecutter.__package }} import metrics, problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.tools import candidates, registry
from {{ cookiecutter.__package }}.tracking import conventions


@pytest.fixture
def project(tmp_path, tracking_store, settings, monkeypatch):
    """A registry of its own, few rows, and a folder for what is written."""
    monkeypatch.setattr(conventions, "model_name", lambda: f"model-{tmp_path.name}")
    monkeypatch.setattr(params, "load", lambda: settings)
    monkeypatch.setattr(candidates, "FOLDER", tmp_path)


def test_the_best_candidate_is_registered(project, tmp_path):
    trained = [candidates.candidate(name) for name in ("linear", "xgboost")]
    assert [each["estimator"] for each in trained] == ["linear", "xgboost"]
    version = candidates.register([each["run_id"] for each in trained], folder=tmp_path)
    best = min(trained, key=lambda each: metrics.loss(problem.METRIC, each[problem.METRIC]))
    assert registry.trace(version)["run"] == best["run_id"]


def test_candidates_of_other_data_are_not_compared(project, settings, tmp_path, monkeypatch):
    run_id = candidates.candidate("linear")["run_id"]
    other = settings.model_copy(update={"data": settings.data.model_copy(update={"seed": 7})})
    monkeypatch.setattr(params, "load", lambda: other)
    with pytest.raises(UserError, match="other data: train all candidates again"):
        candidates.register([run_id], folder=tmp_path)
