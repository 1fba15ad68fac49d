"""The registry: who serves, how that changes, and where a version comes from."""

import contextlib
import getpass
import time
import types

import pytest
from mlflow import MlflowClient, MlflowException
from mlflow.entities.model_registry import ModelVersion

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params, reports
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.model import bundle, fetch
from {{ cookiecutter.__package }}.model.bundle import MismatchError, ModelError
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.pipeline import run
from {{ cookiecutter.__package }}.registry import champion_log, versions
from {{ cookiecutter.__package }}.registry.model_card import markdown
from {{ cookiecutter.__package }}.tools import registry
from {{ cookiecutter.__package }}.tracking import conventions, store


@pytest.fixture
def three(trained, tmp_path, monkeypatch):
    """A registry of its own with three versions of the trained model; the first is champion."""
    monkeypatch.setattr(conventions, "model_name", lambda: f"model-{tmp_path.name}")
    return [str(versions.register(trained.model_uri, trained.run_id, "a card")[0].version) for _ in range(3)]


def champion():
    return str(versions.champion().version)


def test_the_first_version_is_champion_and_the_newest_challenger(three):
    aliases = {row["version"]: row["aliases"] for row in registry.listing()}
    assert aliases == {"1": "champion", "2": "", "3": "challenger"}


def test_promotion_and_rollback_move_the_champion_there_and_back(three):
    assert "replaced version 1" in versions.promote("3")
    versions.promote("2")
    assert champion() == "2"
    versions.rollback()
    assert champion() == "3"
    versions.rollback()
    assert champion() == "1"
    with pytest.raises(UserError, match="nothing to roll back to"):
        versions.rollback()


@pytest.mark.parametrize(
    ("action", "number", "why"),
    [
        (versions.promote, "1", "champion already"),
        (versions.promote, "99", "no version 99"),
        (versions.promote, "latest", "no version number"),
        (registry.archive, "1", "is champion"),
        (registry.trace, "99", "no version 99"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(three, action, number, why):
    with pytest.raises(UserError, match=why):
        action(number)
    assert champion() == "1"


def test_an_archived_version_is_not_promoted_and_not_rolled_back_to(three):
    versions.promote("2")
    registry.archive("1")
    with pytest.raises(UserError, match="archived"):
        versions.promote("1")
    with pytest.raises(UserError, match="archived"):
        versions.rollback()
    assert champion() == "2"


def test_every_move_of_the_champion_is_remembered_with_who_and_why(three):
    versions.promote("3", "fewer errors at night")
    versions.rollback("it was slower")
    moved = [(row["what"], row["from"], row["to"], row["why"]) for row in registry.history()]
    assert moved == [
        ("rollback", "3", "1", "it was slower"),
        ("promote", "1", "3", "fewer errors at night"),
        ("register", "-", "1", "the first version"),
    ]
    assert {row["who"] for row in registry.history()} == {getpass.getuser()}


def test_on_a_server_a_move_needs_a_reason(three, monkeypatch):
    client = store.connect()
    versions.promote("3")
    monkeypatch.setattr(conventions, "is_local", lambda: False)
    monkeypatch.setattr(store, "connect", lambda: client)
    for action in (lambda: versions.promote("2", " "), versions.rollback):
        with pytest.raises(UserError, match="REASON="):
            action()
    assert champion() == "3"


def test_who_comes_second_is_told_and_changes_nothing(three):
    client = store.connect()
    with champion_log.alone(client, conventions.model_name()), pytest.raises(UserError, match="at this moment"):
        versions.promote("2")
    assert champion() == "1"
    assert "replaced version 1" in versions.promote("2")


def test_a_move_that_was_cut_off_does_not_stop_the_next_for_long(three, monkeypatch):
    client = store.connect()
    client.create_registered_model(f"{conventions.model_name()}.moving")
    monkeypatch.setattr(champion_log, "STALE_SECONDS", -1)
    assert "replaced version 1" in versions.promote("2")


@pytest.mark.parametrize("minutes", [-5, 5])
def test_a_clock_that_is_wrong_here_does_not_break_a_turn_that_is_held(three, monkeypatch, minutes):
    client = store.connect()
    client.create_registered_model(f"{conventions.model_name()}.moving")
    wrong = types.SimpleNamespace(time=lambda: time.time() + 60 * minutes)
    monkeypatch.setattr(champion_log, "time", wrong)
    with pytest.raises(UserError, match="at this moment"), champion_log.alone(client, conventions.model_name()):
        pass


def test_what_anybody_may_write_on_a_version_does_not_decide_where_a_rollback_lands(three):
    versions.promote("3")
    store.connect().set_model_version_tag(conventions.model_name(), "3", "replaced", "2")
    versions.rollback()
    assert champion() == "1"


def test_a_champion_that_changed_meanwhile_is_left_as_it_is(three, monkeypatch):
    @contextlib.contextmanager
    def slowly(client, name):
        client.set_registered_model_alias(name, "champion", "3")
        yield

    monkeypatch.setattr(champion_log, "alone", slowly)
    with pytest.raises(UserError, match="changed by somebody else"):
        versions.promote("2")
    assert champion() == "3"


def test_a_move_that_the_store_refuses_is_not_remembered(three, monkeypatch):
    def refuses(*_):
        raise MlflowException("only a maintainer of the team may do this")

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", refuses)
    with pytest.raises(UserError, match="maintainer"):
        versions.promote("2")
    assert [row["what"] for row in registry.history()] == ["register"]


def test_a_version_is_traced_to_its_commit_data_and_lock(three, trained):
    found = registry.trace("1")
    assert found["run"] == trained.run_id
    assert found["data_fingerprint"] == trained.card["data"]["fingerprint"]
    assert float(found[problem.METRIC]) == pytest.approx(trained.card["metrics"][problem.METRIC], rel=1e-5)
    assert {"git_commit", "lock_fingerprint"} <= set(found)


def test_the_served_champion_says_its_version(three):
    versions.promote("2")
    assert bundle.read(fetch.folder(f"models:/{conventions.model_name()}@champion")).version == "2"


def test_the_pipeline_registers_a_version_that_serves(tmp_path, tracking_store, settings, monkeypatch, capsys):
    monkeypatch.setattr(conventions, "model_name", lambda: f"model-{tmp_path.name}")
    monkeypatch.setattr(params, "load", lambda: settings)
    assert run.run(folder=tmp_path) == "1"
    printed = capsys.readouterr().out
    assert all(f"{step} took" in printed for step in ("data", "validate", "train", "gate", "register"))
    assert (
        Predictor(bundle.read(fetch.folder(f"models:/{conventions.model_name()}@champion"))).card["model_version"]
        == "1"
    )
    assert "Model card" in (tmp_path / "reports" / "model-card.md").read_text()
    page = (tmp_path / "reports" / "model-card.html").read_text()
    assert "<h1>Model card" in page
    assert 'href="#part-0">Data</a>' in page
    assert '<img alt="importance" src="data:image/png;base64,' in page
    assert "version 1" in registry.card(folder=tmp_path / "docs")
    assert (tmp_path / "docs" / "model-card.md").read_text() == (tmp_path / "reports" / "model-card.md").read_text()
    assert run.run(folder=tmp_path) == "2"
    assert champion() == "1"


def test_a_value_with_a_bar_or_an_image_stays_a_value_in_its_cell(tmp_path):
    odd = reports.table(["value"], [["a|b\nc"], ["![x](https://elsewhere.example/x.png)"]])
    page = reports.write(tmp_path, "odd", "Odd", odd)[1].read_text()
    assert "<td>a|b c</td>" in page
    assert "<img" not in page


def test_the_card_says_of_categories_in_the_record_s_words_which_were_frequent(trained, dataset):
    told = trained.card["shares"]
    for name in told:
        most, share = next(iter(told[name].items()))
        values = [str(value) for value in dataset.columns[name].tolist()]
        assert most in values
        assert f"{most} ({share:.1%})" in markdown(trained.card)
    assert set(told).isdisjoint(trained.card["reference"])
    assert set(problem.CATEGORIES) & set(problem.Record.model_fields) <= set(told)


def test_the_card_names_data_metrics_and_commit(trained):
    text = markdown(trained.card)
    for part in (
        trained.run_id,
        trained.card["git_commit"],
        trained.card["data"]["fingerprint"],
        f"| {problem.METRIC} |",
        "## Reproduce",
    ):
        assert part in text
    assert all(f"| {part['feature']} | {part['part']} |" in text for part in trained.card["segments"])
    assert ("### Calibration" in text) == (problem.TASK == "binary")


def test_there_is_no_card_before_there_is_a_champion(tracking_store, monkeypatch):
    monkeypatch.setattr(conventions, "model_name", lambda: "nobody")
    with pytest.raises(UserError, match="no champion yet"):
        registry.card()


def test_a_champion_that_cannot_be_had_stops_the_pipeline_and_one_of_other_features_does_not(monkeypatch):
    monkeypatch.setattr(versions, "champion", lambda: ModelVersion("model", "7", 0))

    def gone(uri):
        raise ModelError("the artifact store is away")

    monkeypatch.setattr(fetch, "folder", gone)
    with pytest.raises(ModelError, match="the artifact store is away"):
        versions.loaded()

    def other(uri):
        raise MismatchError("this model is for other features")

    monkeypatch.setattr(fetch, "folder", other)
    assert versions.loaded()[1:] == (None, "champion 7 cannot be compared: this model is for other features")
