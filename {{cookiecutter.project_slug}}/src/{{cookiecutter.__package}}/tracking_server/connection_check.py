"""Check the connection between this machine and the tracking server, in five lines."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import requests
from mlflow.exceptions import MlflowException

from ..base.errors import UserError
from ..tracking import conventions, server_errors, store

EXPERIMENT = "check"


def reach() -> str:
    """Check that the server responds."""
    address = conventions.uri()
    try:
        answer = server_errors.ask(address, "/health")
    except (MlflowException, requests.RequestException) as error:
        raise UserError(server_errors.unreachable(address, error)) from None
    off = server_errors.clock(answer.headers.get("Date", ""))
    if off > server_errors.CLOCK_SECONDS:
        raise UserError(
            f"this machine's clock and the server's differ by {off / 60:.0f} minutes: set it by the network's time"
        )
    return f"{address} answers in {answer.elapsed.total_seconds() * 1000:.0f} ms"


def log_in() -> str:
    """Check that it accepts this user's log-in."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    version = server_errors.reach(conventions.uri(), user)
    return f"{user or 'nobody'} is let in by MLflow {version}"


def workspace() -> str:
    """Check that this user's team exists."""
    team = os.environ.get("MLFLOW_WORKSPACE", "")
    with store.errors():
        mine = [each.name for each in store.connect().list_workspaces()]
    if team not in mine:
        raise UserError(
            f"MLFLOW_WORKSPACE={team!r} is no team of this user, who has {', '.join(mine) or 'none'}: change .env"
        )
    return f"{team} ({len(mine):,} of this user's in all)"


def write() -> str:
    """Check that runs can be created."""
    with store.errors():
        client = store.connect()
        run = client.create_run(conventions.experiment(EXPERIMENT))
        client.log_metric(run.info.run_id, "check", 1.0)
        client.set_terminated(run.info.run_id)
    return f"run {run.info.run_id} in {conventions.experiment_name()}/{EXPERIMENT}"


def artifacts() -> str:
    """Check that a file comes back unchanged; the run of `write` is removed afterwards."""
    try:
        same = _round_trip(os.urandom(1 << 16))
    except UserError as error:
        raise UserError(f"runs are taken, files are not; the server's artifact store may be away: {error}") from None
    if not same:
        raise UserError("the artifact store gave back other bytes than it was sent: tell whoever runs the server")
    return "64 kB went and came back the same"


def _round_trip(sent: bytes) -> bool:
    with store.errors(), tempfile.TemporaryDirectory() as scratch:
        client = store.connect()
        run_id = client.search_runs([conventions.experiment(EXPERIMENT)], max_results=1)[0].info.run_id
        path = Path(scratch) / "check.bin"
        path.write_bytes(sent)
        client.log_artifact(run_id, str(path))
        back = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="check.bin", dst_path=f"{scratch}/back")
        same = Path(back).read_bytes() == sent
        # Only the user who made the experiment, or a maintainer, may; the run does no harm.
        with contextlib.suppress(MlflowException):
            client.delete_run(run_id)
    return same


STEPS: dict[str, Callable[[], str]] = {
    "reach": reach,
    "log-in": log_in,
    "workspace": workspace,
    "write": write,
    "artifacts": artifacts,
}


def main() -> int:
    """`make tracking-check`: five lines on what works; the checks after a failure are skipped."""
    if conventions.is_local():
        raise UserError("runs go to a file here, there is no server to check: set MLFLOW_TRACKING_URI in .env")
    for number, (name, step) in enumerate(STEPS.items()):
        try:
            print(f"{name:10} ok    {step()}", flush=True)
        except UserError as error:
            print(f"{name:10} FAIL  {error}", flush=True)
            for left in list(STEPS)[number + 1 :]:
                print(f"{left:10} -     not tried")
            return 1
    return 0
