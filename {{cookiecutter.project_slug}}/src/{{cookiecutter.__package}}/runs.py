"""A training as one MLflow run: its settings, its data and its tags, wherever runs go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd
from mlflow.data.pandas_dataset import from_pandas

from . import outbox, params, problem, tracking
from .cli import UserError
from .data import Dataset


@dataclass
class Run:
    """A run that is being made.

    Attributes:
        id: its id, as the model's card names it.
        model_uri: the logged model, once there is one; empty while a server has not got it yet.
    """

    id: str
    model_uri: str = ""


@contextlib.contextmanager
def run(train: Dataset, validation: Dataset, settings: params.Params) -> Iterator[Run]:
    """One MLflow run with the settings, both data sets and the tags of `tracking.tags`.

    For a server, everything is logged to the outbox first and delivered at the end: a server that goes away meanwhile
    costs no run.
    """
    tags = tracking.tags(train, validation)
    local = tracking.is_local()
    tracking.connect() if local else outbox.connect()
    with tracking.errors():
        mlflow.set_experiment(experiment_id=tracking.experiment())
        active = mlflow.start_run(tags=tags)
        announced = "" if local else outbox.announce(active.info.run_id, tags)
        made = Run(announced or active.info.run_id)
        try:
            with active:
                mlflow.log_params(_flat(settings.model_dump(include={"data", "decision", "model", "package"})))
                for dataset, context in ((train, "training"), (validation, "validation")):
                    frame = pd.DataFrame({**dataset.columns, problem.TARGET: dataset.target})
                    logged = from_pandas(frame, name=dataset.name[:500], digest=dataset.fingerprint)
                    mlflow.log_input(logged, context=context)
                yield made
        except UserError:
            if not local:
                outbox.deliver(active.info.run_id)
            raise
    if not local:
        made.model_uri = outbox.deliver(active.info.run_id, made.model_uri)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
