"""Runs on their way to a tracking server: logged here first, delivered once, stored while the server is unavailable."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
from collections.abc import Iterator

import mlflow
from mlflow.entities import Run, ViewType

from ..base.errors import Parser, UserError
from ..base.params import ROOT
from . import conventions, store
from .copy_runs import ORIGIN_RUN, PARENT, Transfer, local

FOLDER = ROOT / ".outbox"
SERVER_RUN = "server_run_id"
"""The tag of a run here with the id of its run on the server."""

PATIENCE_SECONDS = 120.0
"""How long a delivery waits for another one from this folder, as when two pipelines end at the same time."""


def _address() -> str:
    """The address of the outbox's SQLite store."""
    return f"sqlite:///{(FOLDER / 'mlflow.db').as_posix()}"


def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient(_address(), _address())


def announce(run_id: str, tags: dict[str, str], given: str = "") -> str:
    """Create a run on the server for a run of the outbox, and point MLflow at the outbox again; returns the server's id.

    The server's run has the id of the one here, so that it is found again if the response is lost; a `given` one, which
    `mlflow run` has made, gets it at delivery. If the server cannot be used, it prints a warning and returns an empty id.
    """
    known = ""
    try:
        client = store.connect()
        with store.errors():
            tags = {**tags, ORIGIN_RUN: run_id}
            known = given or str(client.create_run(conventions.experiment(), tags=tags).info.run_id)
    except UserError as error:
        print(f"warning: {error}; training goes on, its run is logged to {FOLDER.name}", file=sys.stderr)
    client = connect()
    if known:
        client.set_tag(run_id, SERVER_RUN, known)
    return known


def connect() -> mlflow.MlflowClient:
    """Point MLflow at the outbox."""
    FOLDER.mkdir(exist_ok=True)
    return store.connect(_address())


def deliver(run_id: str, model_uri: str = "") -> str:
    """Send a run of the outbox and its children to the server; returns the address there of the model `model_uri` here.

    A run that cannot be delivered stays here; a warning gives the reason, and the address is empty.
    """
    try:
        with _alone():
            server = store.connect()
            with store.errors():
                transfer = Transfer(_client(), server)
                children = [each for each in waiting() if each.data.tags.get(PARENT) == run_id]
                address = _send(transfer, run_id, model_uri)
                for child in children:
                    _send(transfer, child.info.run_id, "")
                return address
    except UserError as error:
        print(f"warning: {error}; the run is kept in {FOLDER.name}: deliver it with `make resend`", file=sys.stderr)
        return ""


def _send(transfer: Transfer, run_id: str, model_uri: str) -> str:
    run = transfer.source.get_run(run_id)
    known = run.data.tags.get(SERVER_RUN, "")
    # `mlflow run` makes a run in the experiment that it is given; the children follow it.
    near = known or transfer.runs.get(run.data.tags.get(PARENT, ""))
    experiment = transfer.target.get_run(near).info.experiment_id if near else conventions.experiment()
    transfer.run(run, experiment, known)
    for output in run.outputs.model_outputs if run.outputs else []:
        _forget(transfer.source.get_logged_model(output.model_id).artifact_location)
    _forget(str(run.info.artifact_uri))
    transfer.source.delete_run(run_id)
    copy = transfer.models.get(model_uri.removeprefix("models:/"))
    return f"models:/{copy}" if copy else ""


def _forget(artifacts: str) -> None:
    # MLflow stores them in a folder named after the run or model.
    shutil.rmtree(local(artifacts).parent, ignore_errors=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Allow one delivery at a time; others wait for it. The lock of a process that died is released."""
    FOLDER.mkdir(exist_ok=True)
    lock = sqlite3.connect(FOLDER / "lock.db", timeout=PATIENCE_SECONDS, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
        yield
    except sqlite3.OperationalError:
        raise UserError("another delivery from this folder is under way") from None
    finally:
        lock.close()


def waiting() -> list[Run]:
    """The runs that are not delivered yet, oldest first."""
    if not (FOLDER / "mlflow.db").exists():
        return []
    client = _client()
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments, "", ViewType.ACTIVE_ONLY, 50_000, ["attributes.start_time ASC"]))


def main() -> int:
    """`make resend`: deliver the runs in the outbox, each of them once."""
    parser = Parser(prog="make resend", description=main.__doc__)
    parser.add_argument("--all", action="store_true", help="also runs that did not end, as killed (make resend ALL=1)")
    given = parser.parse_args()
    if conventions.is_local():
        raise UserError("runs go to a file here, there is nothing to deliver: set MLFLOW_TRACKING_URI in .env")
    # Check first, so that an unavailable server is reported once and not for each run.
    store.connect()
    runs = waiting()
    ended = [run for run in runs if given.all or run.info.status != "RUNNING"]
    for run in ended:
        if run.info.status == "RUNNING":
            _client().set_terminated(run.info.run_id, "KILLED")
    for run in ended:
        # A parent was delivered together with its children.
        if run.info.run_id in {each.info.run_id for each in waiting()}:
            deliver(run.info.run_id)
    left = {run.info.run_id for run in waiting()}
    kept = sum(run.info.run_id in left for run in ended)
    print(f"{len(ended) - kept:,} runs delivered to {conventions.uri()}, {kept:,} kept")
    if len(runs) > len(ended):
        print(f"{len(runs) - len(ended):,} runs have not ended: if they were killed, make resend ALL=1 sends them too")
    return 1 if kept else 0
