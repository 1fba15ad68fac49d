"""A model from MLflow is cached by its content, so that a service also starts while MLflow is down, full or tampered with."""

import errno
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from {{ cookiecutter.__package }}.model import bundle, fetch
from {{ cookiecutter.__package }}.model.bundle import Bundle, ModelError
from {{ cookiecutter.__package }}.registry import versions
from {{ cookiecutter.__package }}.tracking import conventions, store


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def champion(cache, trained, tmp_path, monkeypatch):
    """The address of the champion of a registry of its own, and where MLflow keeps that model's files."""
    monkeypatch.setattr(conventions, "model_name", lambda: f"model-{tmp_path.name}")
    versions.register(trained.model_uri, trained.run_id, "a card")
    logged = store.connect().get_logged_model(trained.model_uri.removeprefix("models:/"))
    files = Path(logged.artifact_location.removeprefix("file://"))
    shutil.copytree(files, tmp_path / "files")
    yield f"models:/{conventions.model_name()}@champion", files
    # Some tests tamper with them, and other tests share the model.
    shutil.rmtree(files)
    shutil.copytree(tmp_path / "files", files)


@pytest.fixture
def away(tracking_store):
    """Takes the store away, and puts it back after the test."""
    database = Path(tracking_store.removeprefix("sqlite:///"))
    yield lambda: database.rename(database.with_suffix(".away"))
    database.with_suffix(".away").rename(database)


def tampered(files):
    """Another model under the same version, by somebody who knows how the checksum is made."""
    folder = files / "data" / "model"
    found = bundle.read(folder)
    bundle.write(Bundle(found.graph, {**found.card, "estimator": "forged"}, found.extras), folder)


def test_the_model_of_a_run_can_be_served_even_when_the_store_is_away(trained, cache, away, capsys):
    fetched = bundle.read(fetch.folder(f"runs:/{trained.run_id}/model"))
    assert fetched.card["metrics"] == trained.card["metrics"]
    away()
    assert bundle.read(fetch.folder(f"runs:/{trained.run_id}/model")) == fetched
    assert "warning" in capsys.readouterr().err
    with pytest.raises(ModelError, match="nothing has been trained yet"):
        fetch.folder("runs:/0123456789abcdef/model")


def test_what_one_server_gave_does_not_stand_in_for_another_s(trained, cache, monkeypatch):
    fetch.folder(f"runs:/{trained.run_id}/model")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    with pytest.raises(ModelError, match="nothing has been trained yet"):
        fetch.folder(f"runs:/{trained.run_id}/model")


def test_a_new_champion_leaves_the_folder_of_the_old_one_as_it_was(champion, trained):
    before = fetch.folder(champion[0])
    content = {path.name: path.read_bytes() for path in before.iterdir()}
    versions.register(trained.model_uri, trained.run_id, "a card")
    versions.promote("2", "better")
    after = fetch.folder(champion[0])
    assert (before.name.split("-")[0], after.name.split("-")[0]) == ("1", "2")
    assert {path.name: path.read_bytes() for path in before.iterdir()} == content


def test_those_who_start_together_get_the_same_folder(champion):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: fetch.folder(champion[0]), range(16)))
    assert len(found) == 1
    bundle.read(found.pop())


@pytest.mark.parametrize("kept", [True, False])
def test_a_champion_whose_files_were_changed_is_not_served(champion, kept):
    address, files = champion
    before = bundle.read(fetch.folder(address)) if kept else None
    tampered(files)
    if kept:
        assert bundle.read(fetch.folder(address)) == before
    else:
        with pytest.raises(ModelError, match=r"version 1 is not what .* made champion at"):
            fetch.folder(address)


def test_what_is_promoted_again_after_a_change_is_served(champion, trained):
    address, files = champion
    versions.register(trained.model_uri, trained.run_id, "a card")
    versions.promote("2", "better")
    tampered(files)
    versions.promote("1", "looked at what has changed")
    assert bundle.read(fetch.folder(address)).card["estimator"] == "forged"


def test_another_model_s_version_of_the_same_number_is_another_version(champion, trained):
    tampered(champion[1])
    client = store.connect()
    client.create_registered_model("another")
    client.create_model_version("another", trained.model_uri, trained.run_id, model_id=trained.model_uri[8:])
    assert bundle.read(fetch.folder("models:/another/1")).card["estimator"] == "forged"
    client.delete_registered_model("another")


def test_a_full_disk_does_not_stop_a_service_that_has_a_copy(champion, monkeypatch, capsys):
    before = fetch.folder(champion[0])
    assert fetch.folder(champion[0]) == before
    monkeypatch.setattr(fetch, "_known", lambda *_: None)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetch, "_keep", full)
    assert fetch.folder(champion[0]) == before
    assert "No space left" in capsys.readouterr().err


def test_old_copies_do_not_fill_the_disk(champion, cache, monkeypatch):
    monkeypatch.setattr(fetch, "KEPT", 2)
    found = bundle.read(fetch.folder(champion[0]))
    (server,) = cache.iterdir()
    for number in range(5):
        fetch._keep(Bundle(found.graph, {**found.card, "note": number}, found.extras), server, server / "pointer")
    assert len([path for path in server.iterdir() if path.is_dir()]) == 2
    assert json.loads((server / (server / "pointer").read_text() / "model.json").read_text())["note"] == 4
