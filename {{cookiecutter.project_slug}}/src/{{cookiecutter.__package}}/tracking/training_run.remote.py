"""A training, or a search with many trials, as an MLflow run, wherever runs go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import mlflow

from ..base.errors import UserError
from . import conventions, outbox, store
from .conventions import Run


@contextlib.contextmanager
def run(tags: dict[str, str], name: str | None = None) -> Iterator[Run]:
    """An active MLflow run in the project's experiment; nested runs are its children.

    For a server, everything is logged to the outbox first and delivered at the end: no run is lost if the server
    becomes unavailable meanwhile.
    """
    local = conventions.is_local()
    store.connect() if local else outbox.connect()
    # The outbox does not have a run that `mlflow run` has made on the server.
    given = "" if local else os.environ.pop("MLFLOW_RUN_ID", "")
    with store.errors():
        if not os.environ.get("MLFLOW_RUN_ID"):  # else `mlflow run` has made the run, in the experiment it was given
            mlflow.set_experiment(experiment_id=conventions.experiment())
        active = mlflow.start_run(run_name=name, tags=tags)
        announced = "" if local else outbox.announce(active.info.run_id, tags, given)
        made = Run(announced or active.info.run_id)
        try:
            with active:
                yield made
        except (UserError, KeyboardInterrupt):
            if not local:
                outbox.deliver(active.info.run_id)
            raise
    if not local:
        made.model_uri = outbox.deliver(active.info.run_id, made.model_uri)
