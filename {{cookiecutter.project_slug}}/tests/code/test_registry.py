"""The registry: who serves, how that changes, and where a version comes from."""

import numpy as np
import pytest

from {{ cookiecutter.__package }} import card, data, gate, params, pipeline, registry, source, tracking
from {{ cookiecutter.__package }}.cli import UserError
from {{ cookiecutter.__package }}.predictor import Predictor


@pytest.fixture
def versions(trained, tmp_path, monkeypatch):
    """A registry of its own with three versions of the trained model; the first is champion."""
    monkeypatch.setattr(tracking, "model_name", lambda: f"model-{tmp_path.name}")
    return [str(registry.register(trained.model_uri, trained.run_id, "a card")[0].version) for _ in range(3)]


def champion():
    return str(registry.champion().version)


def test_the_first_version_is_champion_and_the_newest_challenger(versions):
    aliases = {row["version"]: row["aliases"] for row in registry.listing()}
    assert aliases == {"1": "champion", "2": "", "3": "challenger"}


def test_promotion_and_rollback_move_the_champion_there_and_back(versions):
    assert "replaced version 1" in registry.promote("3")
    registry.promote("2")
    assert champion() == "2"
    registry.rollback()
    assert champion() == "3"
    registry.rollback()
    assert champion() == "1"
    with pytest.raises(UserError, match="nothing to roll back to"):
        registry.rollback()


@pytest.mark.parametrize(
    ("action", "number", "why"),
    [
        (registry.promote, "1", "champion already"),
        (registry.promote, "99", "no version 99"),
        (registry.promote, "latest", "no version number"),
        (registry.archive, "1", "is champion"),
        (registry.trace, "99", "no version 99"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(versions, action, number, why):
    with pytest.raises(UserError, match=why):
        action(number)
    assert champion() == "1"


def test_an_archived_version_is_not_promoted_and_not_rolled_back_to(versions):
    registry.promote("2")
    registry.archive("1")
    with pytest.raises(UserError, match="archived"):
        registry.promote("1")
    with pytest.raises(UserError, match="archived"):
        registry.rollback()
    assert champion() == "2"


def test_a_version_is_traced_to_its_commit_data_and_lock(versions, trained):
    found = registry.trace("1")
    assert found["run"] == trained.run_id
    assert found["data_fingerprint"] == trained.card["data"]["fingerprint"]
    assert float(found["rmse"]) == pytest.approx(trained.card["metrics"]["rmse"], rel=1e-5)
    assert {"git_commit", "lock_fingerprint"} <= set(found)


def test_the_served_champion_says_its_version(versions):
    registry.promote("2")
    assert source.fetch(f"models:/{tracking.model_name()}@champion").version == "2"


def test_the_gate_refuses_what_does_not_beat_the_mean(trained, dataset):
    poor = {"metrics": {"rmse": 8.0, "baseline_rmse": 8.5}}
    with pytest.raises(UserError, match=r"not below 7\.65"):
        gate.require(poor, None, dataset, params.Gate(min_improvement=0.1))


def test_the_gate_refuses_what_is_worse_than_the_champion(trained, predictor, dataset, settings):
    _, newest = data.split(dataset, settings.data.validation_share)
    score = trained.card["metrics"]["rmse"]
    slightly, clearly = ({"metrics": {"rmse": score * by, "baseline_rmse": 90.0}} for by in (1.01, 1.03))
    assert "against" in gate.require(slightly, predictor, newest, params.Gate(max_regression=0.02))
    with pytest.raises(UserError, match="worse than"):
        gate.require(clearly, predictor, newest, params.Gate(max_regression=0.02))


def test_the_gate_refuses_a_metric_that_is_no_number(dataset):
    with pytest.raises(UserError, match="gate"):
        gate.require({"metrics": {"rmse": np.nan, "baseline_rmse": 8.5}}, None, dataset, params.Gate())


def test_the_pipeline_registers_a_version_that_serves(tmp_path, store, settings, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "model_name", lambda: f"model-{tmp_path.name}")
    monkeypatch.setattr(params, "load", lambda: settings)
    assert pipeline.run(folder=tmp_path) == "1"
    printed = capsys.readouterr().out
    assert all(f"{step} took" in printed for step in ("data", "validate", "train", "gate", "register"))
    assert Predictor(source.fetch(f"models:/{tracking.model_name()}@champion")).card["model_version"] == "1"
    assert "Model card" in (tmp_path / "reports" / "model-card.md").read_text()
    assert pipeline.run(folder=tmp_path) == "2"
    assert champion() == "1"


def test_the_card_names_data_metrics_and_commit(trained):
    text = card.markdown(trained.card)
    for part in (trained.run_id, trained.card["git_commit"], trained.card["data"]["fingerprint"], "| rmse |"):
        assert part in text
