"""The gate before the registry: what it refuses, what it promotes by itself, and where that is told."""

import dataclasses

import mlflow
import pytest

from {{ cookiecutter.__package }} import metrics, problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.pipeline import gate, verdict
from {{ cookiecutter.__package }}.pipeline.verdict import Rules
from {{ cookiecutter.__package }}.registry import champion_log, versions
from {{ cookiecutter.__package }}.registry.versions import Champion


@pytest.fixture(scope="session")
def newest(dataset, settings):
    return split(dataset, settings.data.validation_share, settings.data.seed)[1]


@pytest.fixture
def registered(trained):
    """A champion in a registry of its own name."""
    return versions.register(trained.model_uri, trained.run_id, "the card")[0]


def test_a_worse_one_is_refused_with_the_reason_on_the_run_and_in_the_log(
    registered, trained, predictor, newest, settings, monkeypatch
):
    monkeypatch.setattr(verdict, "difference", lambda *_: (0.1, 0.2))
    champion = Champion(versions.champion(), predictor, "")
    with pytest.raises(UserError, match="is worse than"):
        gate.judge(trained, champion, newest, settings)
    run = mlflow.MlflowClient().get_run(trained.run_id)
    assert run.data.tags["verdict"] == "worse"
    latest = champion_log.log(versions.model())[0]
    assert (latest["action"], latest["now"]) == ("refuse", "")
    assert "is worse than" in latest["reason"]


def test_a_better_one_is_promoted_by_itself_unless_a_person_is_to_be_asked(registered, trained, monkeypatch):
    second, _ = versions.register(trained.model_uri, trained.run_id, "the card")
    better = gate.Judged([], "", verdict.Verdict("better", "it is better", []), "1")
    monkeypatch.setattr(verdict.Rules, "load", lambda: Rules(promote="ask"))
    assert "make promote" in next(gate.follow_up(str(second.version), better))
    assert versions.champion().version != second.version
    monkeypatch.setattr(verdict.Rules, "load", lambda: Rules(promote="auto"))
    assert "is champion" in next(gate.follow_up(str(second.version), better))
    assert champion_log.log(versions.model())[0]["reason"] == "it is better"
    undecided = gate.Judged([], "", verdict.Verdict("undecided", "nobody knows", []), "1")
    assert "stays challenger" in next(gate.follow_up(str(second.version), undecided))
    assert champion_log.log(versions.model())[0]["action"] == "undecided"


def test_a_model_whose_behaviour_fails_is_refused_by_the_name_of_the_test(trained, tmp_path):
    assert gate.behaviour(trained.folder) == ""
    broken = bundle.read(trained.folder)
    worthless = dict(broken.card["metrics"])
    worthless |= {name: worthless[f"baseline_{name}"] for name in metrics.METRICS[problem.TASK]}
    bundle.write(dataclasses.replace(broken, card=broken.card | {"metrics": worthless}), tmp_path / "model")
    assert "minimum_functionality" in gate.behaviour(tmp_path / "model")


def test_a_champion_that_was_not_compared_is_not_replaced(registered, trained, monkeypatch):
    monkeypatch.setattr(verdict.Rules, "load", lambda: Rules(promote="auto"))
    second, third = (versions.register(trained.model_uri, trained.run_id, "the card")[0] for _ in range(2))
    better = gate.Judged([], "", verdict.Verdict("better", "it is better", []), str(versions.champion().version))
    assert "is champion" in next(gate.follow_up(str(second.version), better))
    assert "is champion by now" in next(gate.follow_up(str(third.version), better))
    assert versions.champion().version == second.version


def test_the_first_model_is_tested_too(trained, newest, settings, monkeypatch):
    monkeypatch.setattr(gate, "behaviour", lambda folder: "test_direction")
    nobody = Champion(None, None, "there is no champion yet")
    with pytest.raises(UserError, match="fails a behavioural test: test_direction; nothing was registered"):
        gate.judge(trained, nobody, newest, settings)
