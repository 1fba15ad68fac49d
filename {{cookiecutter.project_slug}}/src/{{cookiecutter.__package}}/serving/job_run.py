"""Every scoring job is an MLflow run, and `make about` shows which model scored a file."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ..base import params
from ..base.errors import Parser, UserError
from ..data import storage
from . import outputs


class JobRun:
    """A scoring job in MLflow; if the store is unavailable or MLflow is not installed, it prints a warning and the job continues."""

    def __init__(self, card: dict[str, Any], source: str, target: str) -> None:
        self.run_id = ""
        try:
            from ..tracking import conventions, store

            self._errors = store.errors
            self._client = store.connect()
            with self._errors():
                tags = {
                    "model_name": card["name"],
                    "model_version": card["model_version"],
                    "model_run_id": card["run_id"],
                    **conventions.code_tags(),
                }
                # `mlflow run` has made the run and logged its parameters.
                if given := os.environ.get("MLFLOW_RUN_ID"):
                    self.run_id = given
                    for name, value in tags.items():
                        self._client.set_tag(given, name, value)
                    return
                run = self._client.create_run(conventions.experiment("scoring"), tags=tags, run_name=target[-200:])
                self.run_id = run.info.run_id
                for name, value in (("input", source), ("output", target)):
                    self._client.log_param(self.run_id, name, value[-6_000:])
        except (UserError, ImportError, OSError) as error:
            print(f"warning: this job is not logged: {error}", file=sys.stderr)

    def file(self, digest: str, target: str) -> None:
        """Record that an input with this fingerprint was scored into `target`."""
        self._log(lambda client: client.set_tag(self.run_id, f"input_fingerprint.{digest}", target[-4_000:]))

    def end(self, status: str, **figures: float) -> None:
        """End the run with its metrics; `status` is `FINISHED`, `FAILED` or `KILLED`."""
        now = int(time.time() * 1000)
        for name, value in figures.items():
            self._log(lambda client, name=name, value=value: client.log_metric(self.run_id, name, value, now))
        self._log(lambda client: client.set_terminated(self.run_id, status))

    def _log(self, write: Any) -> None:
        if not self.run_id:
            return
        try:
            with self._errors():
                write(self._client)
        except UserError as error:
            print(f"warning: this job is not logged any further: {error}", file=sys.stderr)
            self.run_id = ""


def about(name: str) -> dict[str, str]:
    """The metadata of the Parquet file at `name`.

    Raises:
        UserError: there is no such file, or it was not written by `make score`.
    """
    found = outputs.metadata(storage.place(name))
    if "model_run_id" not in found:
        raise UserError(f"{name} is no Parquet file that `make score` wrote: it does not say which model scored it")
    return {key: value for key, value in found.items() if key != "input_state"}


def of_file(metadata: dict[str, str]) -> dict[str, str]:
    """MLflow's data about the job that a scored file's `metadata` names.

    Raises:
        UserError: the store is unavailable, or has no such run.
    """
    from ..tracking import conventions, store

    with store.errors():
        run = store.connect().get_run(metadata["job_run_id"])
    return {
        "job": f"run {run.info.run_id} ({run.info.status.lower()})",
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.info.start_time / 1000)),
        "code": f"{run.data.tags['git_commit']}{', with changes' if run.data.tags['git_dirty'] == 'true' else ''}",
        **{name: f"{value:,.6g}" for name, value in sorted(run.data.metrics.items())},
        "experiment": f"{params.names()['name']} ({conventions.look()})",
    }


def main() -> None:
    """`make about`: print which model scored FILE, and what its job did."""
    parser = Parser(prog="make about", description=main.__doc__)
    parser.add_argument("file", nargs="?", default="", help="a file that was scored (make about FILE=...)")
    given = parser.parse_args()
    if not given.file:
        raise UserError("which file? make about FILE=scored.parquet")
    found = about(given.file)
    try:
        found |= of_file(found) if found["job_run_id"] else {}
    except UserError as error:
        print(f"warning: {error}", file=sys.stderr)
    print("\n".join(f"{key:18} {value}" for key, value in found.items()))
