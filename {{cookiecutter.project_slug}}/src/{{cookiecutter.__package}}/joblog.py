"""Every scoring job as an MLflow run of its own, so that "which model scored this file?" has an answer."""

from __future__ import annotations

import sys
import time
from typing import Any

from . import params
from .cli import UserError


class JobLog:
    """A scoring job in MLflow; where the store is away or MLflow is not installed, a line says so and the job goes on."""

    def __init__(self, card: dict[str, Any], source: str, target: str) -> None:
        self.run_id = ""
        try:
            from . import tracking

            self._tracking = tracking
            self._client = tracking.connect()
            with tracking.errors():
                tags = {
                    "model_name": card["name"],
                    "model_version": card["model_version"],
                    "model_run_id": card["run_id"],
                    **tracking.code_tags(),
                }
                run = self._client.create_run(tracking.experiment("scoring"), tags=tags, run_name=target[-200:])
                self.run_id = run.info.run_id
                for name, value in (("input", source), ("output", target)):
                    self._client.log_param(self.run_id, name, value[-6_000:])
        except (UserError, ImportError, OSError) as error:
            print(f"warning: this job is not logged: {error}", file=sys.stderr)

    def file(self, digest: str, target: str) -> None:
        """Note that an input of this fingerprint was scored into `target`."""
        self._log(lambda client: client.set_tag(self.run_id, f"input_fingerprint.{digest}", target[-4_000:]))

    def end(self, status: str, **figures: float) -> None:
        """Close the run with its figures; `status` is `FINISHED`, `FAILED` or `KILLED`."""
        now = int(time.time() * 1000)
        for name, value in figures.items():
            self._log(lambda client, name=name, value=value: client.log_metric(self.run_id, name, value, now))
        self._log(lambda client: client.set_terminated(self.run_id, status))

    def _log(self, write: Any) -> None:
        if not self.run_id:
            return
        try:
            with self._tracking.errors():
                write(self._client)
        except UserError as error:
            print(f"warning: this job is not logged any further: {error}", file=sys.stderr)
            self.run_id = ""


def about(metadata: dict[str, str]) -> dict[str, str]:
    """What MLflow knows of the job that a scored file's `metadata` names.

    Raises:
        UserError: the store is away, or has no such run.
    """
    from . import tracking

    with tracking.errors():
        run = tracking.connect().get_run(metadata["job_run_id"])
    return {
        "job": f"run {run.info.run_id} ({run.info.status.lower()})",
        "started": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.info.start_time / 1000)),
        "code": f"{run.data.tags['git_commit']}{', with changes' if run.data.tags['git_dirty'] == 'true' else ''}",
        **{name: f"{value:,.6g}" for name, value in sorted(run.data.metrics.items())},
        "experiment": f"{params.names()['name']} (make ui)",
    }
