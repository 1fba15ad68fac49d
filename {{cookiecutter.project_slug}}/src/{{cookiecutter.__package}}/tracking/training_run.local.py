"""A training, or a search with many trials, as an MLflow run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import mlflow

from . import conventions, store
from .conventions import Run


@contextlib.contextmanager
def run(tags: dict[str, str], name: str | None = None) -> Iterator[Run]:
    """An active MLflow run in the project's experiment; nested runs are its children."""
    store.connect()
    with store.errors():
        if not os.environ.get("MLFLOW_RUN_ID"):  # else `mlflow run` has made the run, in the experiment it was given
            mlflow.set_experiment(experiment_id=conventions.experiment())
        with mlflow.start_run(run_name=name, tags=tags) as active:
            yield Run(active.info.run_id)
