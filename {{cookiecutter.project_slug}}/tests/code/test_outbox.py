"""Runs for a server: kept while it cannot be reached, delivered once and completely; and the move from a local store."""

import json
import shutil
import sqlite3
import threading

import mlflow
import pandas as pd
import pytest
from mlflow.entities import LoggedModelOutput, ViewType

from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data.split import split
from {{ cookiecutter.__package }}.tools import migrate
from {{ cookiecutter.__package }}.tracking import conventions, outbox, server_errors, store, training_run
from {{ cookiecutter.__package }}.training import train


class Server:
    """A second store that the project takes for its server; `away` says whether it can be reached."""

    def __init__(self, address: str) -> None:
        self.address, self.away = address, False
        self.client = mlflow.MlflowClient(address, address)

    def reach(self, *_: str) -> None:
        if self.away:
            raise UserError("no MLflow server answers")

    def runs(self, experiment: str = "") -> list:
        found = self.client.get_experiment_by_name(experiment or conventions.experiment_name())
        return self.client.search_runs([found.experiment_id], "", ViewType.ALL) if found else []


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store with nothing in it; making one costs a second, copying it nothing."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    store.connect(f"sqlite:///{path.as_posix()}")
    return path


@pytest.fixture
def server(empty, tmp_path, monkeypatch):
    for folder in ("server", ".outbox"):
        (tmp_path / folder).mkdir()
        shutil.copy(empty, tmp_path / folder / "mlflow.db")
    address = f"sqlite:///{(tmp_path / 'server' / 'mlflow.db').as_posix()}"
    made = Server(address)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(conventions, "is_local", lambda asked="": (asked or conventions.uri()) != address)
    monkeypatch.setattr(server_errors, "reach", made.reach)
    monkeypatch.setattr(outbox, "FOLDER", tmp_path / ".outbox")
    return made


@pytest.fixture
def small(settings):
    """Settings that train in a moment."""
    return settings.model_copy(update={"model": params.Model(estimator="linear")})


def log_something(dataset, settings, tmp_path):
    """A run with everything that a training's has, without the training; gives it as it ended."""
    parts = split(dataset, 0.2)
    with training_run.run(conventions.tags(*parts)) as run:
        conventions.log_inputs(*parts, settings)
        mlflow.log_metric("rmse", 3.0)
        mlflow.log_text("a picture", "plots/a.txt")
        (tmp_path / "MLmodel").write_text("flavors: {}")
        model = mlflow.initialize_logged_model("model")
        mlflow.MlflowClient().log_model_artifact(model.model_id, str(tmp_path / "MLmodel"))
        mlflow.finalize_logged_model(model.model_id, "READY")
        mlflow.MlflowClient().log_outputs(mlflow.active_run().info.run_id, [LoggedModelOutput(model.model_id, 0)])
        run.model_uri = model.model_uri
    return run


def resend(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["outbox", *words])
    return outbox.main()


def test_a_run_goes_to_the_server_under_the_id_that_its_card_names(server, dataset, small, tmp_path):
    trained = train.train(dataset, small, tmp_path / "model")
    (run,) = server.runs()
    assert run.info.run_id == trained.run_id == trained.card["run_id"]
    assert run.info.status == "FINISHED"
    assert {name: run.data.metrics[name] for name in trained.card["metrics"]} == pytest.approx(trained.card["metrics"])
    assert trained.model_uri.removeprefix("models:/") == run.outputs.model_outputs[0].model_id
    assert outbox.waiting() == []
    assert not any((tmp_path / ".outbox").rglob("model.onnx"))


def test_a_run_that_finds_no_server_is_kept_and_delivered_once_as_it_was(
    server, dataset, small, tmp_path, monkeypatch, capsys
):
    server.away = True
    trained = train.train(dataset, small, tmp_path / "model")
    assert trained.model_uri == ""
    assert "make resend" in capsys.readouterr().err
    (kept,) = outbox.waiting()
    with pytest.raises(UserError, match="no MLflow server"):
        resend(monkeypatch)
    server.away = False
    assert resend(monkeypatch) == 0
    assert resend(monkeypatch) == 0
    (run,) = server.runs()
    assert (run.info.start_time, run.info.end_time) == (kept.info.start_time, kept.info.end_time)
    assert run.data.params == kept.data.params
    assert run.data.metrics == kept.data.metrics
    assert run.data.tags["data_fingerprint"] == kept.data.tags["data_fingerprint"]
    assert run.data.tags["origin_run_id"] == trained.run_id
    assert len(run.inputs.dataset_inputs) == 2
    # Pictures come with the intervals, from level 2 on.
    assert bool(server.client.list_artifacts(run.info.run_id, "plots")) == ("intervals" in trained.card)
    few = dataset.take(slice(3))
    store.connect()
    loaded = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    assert len(loaded.predict(pd.DataFrame(dict(few.columns)))) == 3


STEPS = ("log_batch", "log_inputs", "log_artifact", "log_model_artifacts", "finalize_logged_model", "set_terminated")


@pytest.mark.parametrize("step", STEPS)
def test_a_delivery_that_breaks_off_is_completed_and_nothing_is_there_twice(
    server, dataset, small, tmp_path, monkeypatch, step
):
    """The connection is cut at one step or another of the first delivery."""
    whole = getattr(mlflow.MlflowClient, step)

    def cut(client, *given, **more):
        if client.tracking_uri == server.address:
            raise mlflow.MlflowException("the connection broke off")
        return whole(client, *given, **more)

    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, step, cut)
        assert log_something(dataset, small, tmp_path).model_uri == ""
        assert len(outbox.waiting()) == 1
    assert resend(monkeypatch) == 0
    assert outbox.waiting() == []
    (run,) = server.runs()
    assert run.info.status == "FINISHED"
    (model,) = server.client.search_logged_models([run.info.experiment_id])
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert str(model.status) == "READY"
    assert all(len(server.client.get_metric_history(run.info.run_id, name)) == 1 for name in run.data.metrics)


def test_a_run_whose_opening_was_not_answered_is_found_again(server, dataset, small, tmp_path, monkeypatch):
    whole = mlflow.MlflowClient.create_run

    def unanswered(client, *given, **more):
        made = whole(client, *given, **more)
        if client.tracking_uri == server.address:
            raise mlflow.MlflowException("the connection broke off")
        return made

    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, "create_run", unanswered)
        assert log_something(dataset, small, tmp_path).model_uri != ""
    (run,) = server.runs()
    assert run.info.status == "FINISHED"


def test_a_training_that_fails_is_a_failed_run_on_the_server_too(server, dataset, small, tmp_path):
    unknown = small.model_copy(update={"model": params.Model(estimator="forest")})
    with pytest.raises(UserError, match="forest"):
        train.train(dataset, unknown, tmp_path / "model")
    (run,) = server.runs()
    assert run.info.status == "FAILED"
    assert outbox.waiting() == []


def test_a_run_that_did_not_end_waits_until_it_is_asked_for(server, monkeypatch, capsys):
    outbox.connect().create_run(conventions.experiment())
    assert resend(monkeypatch) == 0
    assert "ALL=1" in capsys.readouterr().out
    assert server.runs() == []
    assert resend(monkeypatch, "--all") == 0
    (run,) = server.runs()
    assert run.info.status == "KILLED"


def test_two_deliveries_at_once_do_not_get_in_each_other_s_way(server, dataset, small, tmp_path, monkeypatch, capsys):
    server.away = True
    log_something(dataset, small, tmp_path)
    server.away = False
    other = sqlite3.connect(outbox.FOLDER / "lock.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(outbox, "PATIENCE_SECONDS", 0.1)
    assert resend(monkeypatch) == 1
    assert "another delivery" in capsys.readouterr().err
    monkeypatch.setattr(outbox, "PATIENCE_SECONDS", 60)
    threading.Timer(0.5, other.close).start()
    assert resend(monkeypatch) == 0
    assert len(server.runs()) == 1


def test_without_a_server_there_is_nothing_to_deliver(monkeypatch):
    with pytest.raises(UserError, match="go to a file"):
        resend(monkeypatch)


@pytest.fixture
def local_store(empty, dataset, small, tmp_path, monkeypatch):
    """A local store with two runs, one of them the child of the other, and two registered versions; and an empty one."""
    (tmp_path / "server").mkdir()
    for path in (tmp_path / "mlflow.db", tmp_path / "server" / "mlflow.db"):
        shutil.copy(empty, path)
    # An SQLite file as the target of a move keeps artifacts in the folder that one is in.
    monkeypatch.chdir(tmp_path)
    address = f"sqlite:///{(tmp_path / 'mlflow.db').as_posix()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setattr(migrate, "ROOT", tmp_path)
    made = [log_something(dataset, small, tmp_path) for _ in range(2)]
    client = store.connect()
    client.set_tag(made[1].run_id, "mlflow.parentRunId", made[0].run_id)
    client.log_metric(made[0].run_id, "loss", 2.0, step=1)
    client.log_metric(made[0].run_id, "loss", 1.0, step=2)
    client.create_registered_model("model")
    for number, each in enumerate(made, 1):
        client.create_model_version("model", each.model_uri, each.run_id, model_id=each.model_uri[8:])
        note = {"action": "promote", "was": "" if number == 1 else "1", "now": str(number)}
        client.set_registered_model_tag("model", f"{conventions.MOVE}{number}", json.dumps(note))
    client.set_registered_model_alias("model", "champion", "2")
    return client


def moved(monkeypatch, address):
    monkeypatch.setattr("sys.argv", ["migrate", "--to", address])
    return migrate.main()


def test_a_local_store_moves_whole_and_moving_it_again_adds_nothing(local_store, tmp_path, monkeypatch, capsys):
    address = f"sqlite:///{(tmp_path / 'server' / 'mlflow.db').as_posix()}"
    for _ in range(2):
        assert moved(monkeypatch, address) == 0
        assert "the same checksum" in capsys.readouterr().out
    there = mlflow.MlflowClient(address, address)
    experiment = there.get_experiment_by_name(conventions.experiment_name())
    child, parent = there.search_runs([experiment.experiment_id])
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [point.value for point in there.get_metric_history(parent.info.run_id, "loss")] == [2.0, 1.0]
    assert [version.version for version in migrate.versions(there, "model")] == [1, 2]
    champion = there.get_model_version_by_alias("model", "champion")
    assert str(champion.version) == "2"
    assert json.loads(there.get_registered_model("model").tags[f"{conventions.MOVE}2"])["was"] == "1"
    assert champion.run_id == child.info.run_id


def test_moving_again_does_not_take_the_alias_back(local_store, tmp_path, monkeypatch):
    address = f"sqlite:///{(tmp_path / 'server' / 'mlflow.db').as_posix()}"
    moved(monkeypatch, address)
    there = mlflow.MlflowClient(address, address)
    there.set_registered_model_alias("model", "champion", "1")
    moved(monkeypatch, address)
    assert str(there.get_model_version_by_alias("model", "champion").version) == "1"


def test_two_people_who_move_the_same_project_lose_no_version(local_store, tmp_path, monkeypatch, capsys):
    """Both have a version 1 and a version 2; the second one's are other models."""
    address = f"sqlite:///{(tmp_path / 'server' / 'mlflow.db').as_posix()}"
    moved(monkeypatch, address)
    there = mlflow.MlflowClient(address, address)
    for version in migrate.versions(there, "model"):
        # As if somebody else's store had been moved there before.
        there.set_model_version_tag("model", version.version, migrate.ORIGIN_VERSION, f"m-another {version.version}")
    assert moved(monkeypatch, address) == 0
    assert [version.version for version in migrate.versions(there, "model")] == [1, 2, 3, 4]
    assert "registered versions         2        2" in capsys.readouterr().out


def test_a_file_that_did_not_arrive_is_noticed(local_store, tmp_path, monkeypatch):
    address = f"sqlite:///{(tmp_path / 'server' / 'mlflow.db').as_posix()}"
    moved(monkeypatch, address)
    next((tmp_path / "mlruns").rglob("MLmodel")).write_bytes(b"other")
    with pytest.raises(UserError, match="not all of it arrived"):
        moved(monkeypatch, address)


def test_without_a_local_store_there_is_nothing_to_move(tmp_path, monkeypatch):
    monkeypatch.setattr(migrate, "ROOT", tmp_path)
    with pytest.raises(UserError, match="no local store"):
        moved(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(UserError, match="where to"):
        moved(monkeypatch, "")
