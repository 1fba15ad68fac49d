"""A service keeps answering while its model is replaced, and refuses a model that cannot be used."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from records import several

from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.model import bundle, following, live
from {{ cookiecutter.__package }}.model.bundle import Bundle, ModelError
from {{ cookiecutter.__package }}.model.following import Following
from {{ cookiecutter.__package }}.model.live import State
from {{ cookiecutter.__package }}.model.predictor import RECORDS
from {{ cookiecutter.__package }}.registry import champion_log, share, versions
from {{ cookiecutter.__package }}.serving import served_model
from {{ cookiecutter.__package }}.tracking import conventions, store


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.02)


@pytest.fixture
def models(trained, tmp_path):
    """Folders of two versions, and one that no model is in."""
    found = bundle.read(trained.folder)
    for number in ("1", "2"):
        bundle.write(Bundle(found.graph, {**found.card, "model_version": number}, found.extras), tmp_path / number)
    (tmp_path / "broken").mkdir()
    return tmp_path


@pytest.fixture
def followed(models):
    path = models / "live.json"
    State(str(models / "1")).write(path)
    return Following(path, lambda said: served_model.build(served_model.read(said))), path


@pytest.fixture
def service(registry, tmp_path):
    """A process with a group of its own that has begun as a service does, and waits; what is printed is in `errors`."""
    begun = (
        f"from {following.__name__.rpartition('.')[0]} import following; following.begin(); print(flush=True); input()"
    )
    known = {"PYTHONPATH": str(params.PACKAGE.parent), "MODEL_URI": registry, "MLFLOW_TRACKING_URI": conventions.uri()}
    there = {**os.environ, **known, "MODEL_CACHE": str(tmp_path / "cache")}
    with (tmp_path / "errors").open("w") as errors:
        piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors, "start_new_session": True}
        with subprocess.Popen([sys.executable, "-c", begun], env=there, **piped) as process:
            process.stdout.readline()
            yield process
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="it is not started again on Windows")
def test_what_asks_the_registry_is_started_again_where_it_ends_and_ends_with_the_service(service):
    until(lambda: asking(service.pid))
    first = asking(service.pid)
    os.kill(int(first), signal.SIGKILL)
    until(lambda: asking(service.pid) not in ("", first))
    service.kill()
    service.wait()
    until(lambda: not asking(service.pid, ""))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes")
def test_a_group_that_is_stopped_leaves_nothing_and_prints_no_bug(service, tmp_path, stop):
    until(lambda: list((tmp_path / "cache").rglob("*.asked")))
    os.killpg(service.pid, stop)
    service.wait(20)
    until(lambda: not asking(service.pid, ""))
    assert "Fatal" not in (tmp_path / "errors").read_text()


def asking(group, how="^/.* follow --uri"):
    """The process of a group that asks the registry; or all of the group."""
    found = subprocess.run(["pgrep", "-g", str(group), "-f", how], capture_output=True, text=True)
    return found.stdout.strip()


def one():
    return schema.columns(RECORDS.validate_python(several(1), strict=False))


def until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def version(predictor):
    return predictor.predict(one())["model_version"][0]


def test_what_the_file_names_answers_soon_without_a_restart(followed, models):
    predictor, path = followed
    assert version(predictor) == "1"
    State(str(models / "2")).write(path)
    until(lambda: version(predictor) == "2")
    assert predictor.card["model_version"] == "2"


def test_a_model_that_was_replaced_leaves_no_thread(models):
    path, others = models / "live.json", set(threading.enumerate())
    both = State(str(models / "1"), str(models / "2"), shadow=1.0, experiment="x")
    both.write(path)
    noted = types.SimpleNamespace(note=lambda *_: None)
    predictor = Following(path, lambda said: served_model.build(served_model.read(said), noted))
    for given in (0.1, 0.2, 0.3):
        both._replace(ab=given).write(path)
        until(lambda given=given: predictor.card["serving"]["share"] == given)
    until(lambda: sum(thread.name == "shadow" for thread in set(threading.enumerate()) - others) == 1)


def test_a_request_that_asks_twice_asks_one_model(followed, models):
    predictor, path = followed
    at_once = predictor.snapshot()
    State(str(models / "2")).write(path)
    until(lambda: version(predictor) == "2")
    assert version(at_once) == "1"


def test_no_answer_fails_while_the_model_is_replaced(followed, models):
    predictor, path = followed
    seen, failed, over = set(), [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                seen.add(version(predictor))
            except Exception as error:  # any at all would be one too many
                failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in ("2", "1", "2"):
        State(str(models / number)).write(path)
        until(lambda number=number: predictor.card["model_version"] == number)
    over.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert seen == {"1", "2"}


def test_a_model_that_cannot_be_used_is_refused_and_the_old_one_goes_on(followed, models, capfd):
    predictor, path = followed
    State(str(models / "broken")).write(path)
    until(lambda: predictor.card["serving"]["refused"])
    assert "no model in" in predictor.card["serving"]["refused"]
    assert version(predictor) == "1"
    assert "new model refused, the old one stays" in capfd.readouterr().err
    State(str(models / "2")).write(path)
    until(lambda: version(predictor) == "2")
    assert predictor.card["serving"]["refused"] is None


def test_whatever_goes_wrong_the_service_goes_on_looking(models):
    path, failures = models / "live.json", iter([PermissionError("this file is another user's")])

    def build(said):
        if said.champion.endswith("2") and (failure := next(failures, None)):
            raise failure
        return served_model.build(served_model.read(said))

    State(str(models / "1")).write(path)
    predictor = Following(path, build)
    State(str(models / "2")).write(path)
    until(lambda: predictor.card["serving"]["refused"])
    State(str(models / "2"), left_out="a new look").write(path)
    until(lambda: version(predictor) == "2")


def test_a_file_that_says_nothing_is_an_error_at_the_start(tmp_path):
    (tmp_path / "live.json").write_text('{"champ')
    with pytest.raises(ModelError, match="does not say what answers"):
        Following(tmp_path / "live.json", lambda said: served_model.build(served_model.read(said)))


@pytest.fixture
def registry(trained, tmp_path, monkeypatch):
    """A registry with a champion, version 1, and a challenger, version 2."""
    monkeypatch.setenv("MODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(conventions, "model_name", lambda: f"model-{tmp_path.name}")
    for _ in range(2):
        versions.register(trained.model_uri, trained.run_id, "a card")
    return f"models:/{conventions.model_name()}@champion"


def test_the_registry_says_who_answers_and_which_share_the_challenger_has(registry):
    assert live.now(registry).challenger == ""
    assert "challenger 2 answers a share of 0.25 beside champion 1" in share.give("ab", "0.25", "to see it in use")
    said = live.now(registry)
    assert (bundle.read(Path(said.challenger)).version, said.ab) == ("2", 0.25)
    versions.promote("2")
    assert (live.now(registry).challenger, live.experiment(conventions.model_name()).champion) == ("", "2")
    versions.rollback()
    assert live.experiment(conventions.model_name()).champion == "1"


@pytest.mark.parametrize("given", ["1.5", "-0.1", "much", "nan"])
def test_what_is_no_share_is_refused(registry, given):
    with pytest.raises(Exception, match="is no share"):
        share.give("ab", given, "")


def test_a_challenger_that_cannot_be_used_leaves_the_champion_alone(registry, monkeypatch, capsys):
    share.give("ab", "0.5", "")
    note = {"version": "2", "digest": "that of other files"}
    champion_log.note(store.connect(), conventions.model_name(), "ab", "", "0.5", "0.6", "", **note)
    said = live.now(registry)
    assert said.challenger == ""
    assert "the challenger does not take part: version 2 is not what was given a share" in said.left_out


def test_a_share_is_that_of_the_version_that_it_was_given_to(registry, trained):
    share.give("ab", "0.5", "")
    versions.register(trained.model_uri, trained.run_id, "a card")
    assert str(versions.model().aliases["challenger"]) == "3"
    said = live.experiment(conventions.model_name())
    assert (said.challenger, said.share) == ("2", 0.5)
    share.give("shadow", "1", "", "3")
    said = live.experiment(conventions.model_name())
    assert (said.challenger, said.share, said.shadow) == ("3", 0.0, 1.0)


def test_another_champion_ends_the_experiment_for_good(registry):
    share.give("ab", "0.5", "")
    versions.promote("2")
    versions.rollback()
    assert live.experiment(conventions.model_name()).share == 0
    assert live.now(registry).challenger == ""
    last = live.last_experiment(conventions.model_name(), "ab")
    assert (last.champion, last.challenger, last.share) == ("1", "2", 0.5)


def test_an_experiment_that_was_ended_can_still_be_told_of(registry):
    share.give("ab", "0.25", "")
    time.sleep(1.1)
    share.give("ab", "0", "")
    assert live.experiment(conventions.model_name()).share == 0
    last = live.last_experiment(conventions.model_name(), "ab")
    assert (last.champion, last.challenger, last.share) == ("1", "2", 0.25)
    assert last.since < last.until


def test_a_registry_that_is_away_ends_no_experiment(registry, monkeypatch, capsys):
    share.give("ab", "0.25", "")
    place = live.place(registry)
    live.now(registry).write(place)

    def away(name):
        raise UserError("the server is away")

    monkeypatch.setattr(live.fetch, "registered", away)
    with pytest.raises(UserError, match="the server is away"):
        live.now(registry)
    assert live.at_start(registry).ab == 0.25
    assert "answering by the registry's last known state" in capsys.readouterr().err


def test_what_is_there_is_not_downloaded_again(registry, monkeypatch):
    first = live.now(registry)

    def never(uri):
        raise AssertionError("it was downloaded again")

    monkeypatch.setattr(live.fetch, "download", never)
    assert live.now(registry) == first


def test_a_registry_that_is_away_at_the_start_leaves_the_model_of_the_image(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(following.os, "read", lambda *_: b"")

    def away(uri):
        raise UserError("the server is away")

    monkeypatch.setattr(live, "now", away)
    path = tmp_path / "live.json"
    words = ["--uri", "models:/x@champion", "--state", str(path), "--beside", "--instead", "/app/model"]
    monkeypatch.setattr(following.sys, "argv", ["follow", *words])
    following.main()
    assert live.read(path) == State("/app/model")
    assert live.asked(path) is None


def test_a_job_keeps_its_models_to_its_end(registry, monkeypatch):
    monkeypatch.setenv("MODEL_URI", registry)
    monkeypatch.setenv("MODEL_STATE", "")
    share.give("ab", "1", "")
    served_model.pin()
    predictor = served_model.build()
    versions.promote("2")
    answers = predictor.predict(one())
    assert (answers["role"][0], answers["model_version"][0]) == ("challenger", "2")
    assert json.dumps(predictor.card["serving"]) == '{"challenger": "2", "share": 1.0}'
    assert np.all(answers["role"] == "challenger")
