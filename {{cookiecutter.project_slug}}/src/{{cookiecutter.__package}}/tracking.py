"""The project's MLflow conventions in one place: where runs go, what they are called, which tags each one has."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before MLflow is imported: nobody asked for usage reports to leave the machine, nor for a bar per downloaded file.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import pandas as pd
import sqlalchemy.exc
from mlflow.data.pandas_dataset import from_pandas
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from . import params, problem
from .cli import UserError
from .params import ROOT

if TYPE_CHECKING:
    from .data import Dataset

SERVING = ("mlflow", "numpy", "onnxruntime", "pandas", "pydantic")
"""What the logged model needs, at the versions of the lock; letting MLflow guess them would cost ten seconds a run."""


def connect() -> mlflow.MlflowClient:
    """Point MLflow at the tracking store; an SQLite file that does not exist yet is made.

    Raises:
        UserError: the store cannot be opened or made.
    """
    # What goes wrong is said once, by `errors`; MLflow would log it with its traceback as well.
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="mlflow")
    mlflow.set_tracking_uri(uri())
    mlflow.set_registry_uri(uri())
    with errors():
        database = Path(uri().removeprefix("sqlite:///"))
        if uri().startswith("sqlite:///") and not database.exists():
            _create(database)
        return mlflow.MlflowClient()


def _create(database: Path) -> None:
    """A whole SQLite store or none: MLflow cannot open one whose creation was cut short."""
    with tempfile.TemporaryDirectory(prefix=f".{database.name}-", dir=database.parent) as scratch:
        made = Path(scratch) / database.name
        store = SqlAlchemyStore(f"sqlite:///{made.as_posix()}", (ROOT / "mlartifacts").as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        if not database.exists():  # else somebody was quicker
            made.replace(database)


def uri() -> str:
    """The tracking store: `MLFLOW_TRACKING_URI`, else the SQLite file of this project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(ROOT / 'mlflow.db').as_posix()}"


def is_local() -> bool:
    """Whether runs go to a file rather than to a server."""
    return not uri().startswith("http")


def model_name() -> str:
    """The registered model: one a project, named like it."""
    return params.names()["name"]


def experiment_name() -> str:
    """`<team>/<project>`, so that teams that share a server stay apart."""
    names = params.names()
    return f"{names['team']}/{names['name']}"


def _reason(error: BaseException) -> str:
    """What the database's driver says if it was that, else the first line of the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, sqlalchemy.exc.DBAPIError):
            return str(cause.orig).strip()[:200]
        cause = cause.__cause__ or cause.__context__
    return str(error).strip().splitlines()[0][:200]


def experiment(part: str = "") -> str:
    """The id of the project's experiment, or of a part of it such as `scoring`; it is made where there is none."""
    name = experiment_name() + (f"/{part}" if part else "")
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        location = (ROOT / "mlartifacts").as_uri() if is_local() else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:  # nobody else was quicker: it cannot be made
                raise
    return str(found.experiment_id)


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Turn what MLflow raises for a store that is away, full or read-only into one line with the remedy."""
    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = _reason(error)
        raise UserError(
            f"MLflow at {mlflow.get_tracking_uri()}: {reason}; check that it can be reached and written"
        ) from None


@contextlib.contextmanager
def run(train: Dataset, validation: Dataset, settings: params.Params) -> Iterator[str]:
    """One MLflow run with the settings, both data sets and the tags of `tags`; gives its id."""
    connect()
    with errors():
        mlflow.set_experiment(experiment_id=experiment())
        with mlflow.start_run(tags=tags(train, validation)) as active:
            mlflow.log_params(_flat(settings.model_dump(include={"data", "model", "package"})))
            for dataset, context in ((train, "training"), (validation, "validation")):
                frame = pd.DataFrame({**dataset.columns, problem.TARGET: dataset.target})
                logged = from_pandas(frame, name=dataset.name[:500], digest=dataset.fingerprint)
                mlflow.log_input(logged, context=context)
            yield active.info.run_id


def tags(train: Dataset, validation: Dataset) -> dict[str, str]:
    """What every run is labelled with: who, from which code, data and lock, made why."""
    return {
        **code_tags(),
        "data_fingerprint": f"{train.fingerprint}-{validation.fingerprint}",
        "data_span": f"{train.span[0]} to {validation.span[1]}",
    }


def code_tags() -> dict[str, str]:
    """The part of the tags that does not depend on data."""
    names = params.names()
    lock = ROOT / "Pipfile.lock"
    return {
        "team": names["team"],
        "git_commit": _git("rev-parse", "HEAD") or "none",
        "git_dirty": str(bool(_git("status", "--porcelain"))).lower(),
        "lock_fingerprint": hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.exists() else "none",
        "template_version": names["template"],
        "trigger": os.environ.get("TRIGGER", "manual"),
    }


def requirements() -> list[str]:
    """The pinned requirements of the logged model, from the lock."""
    lock = json.loads((ROOT / "Pipfile.lock").read_bytes())
    pins = {**lock.get("train", {}), **lock["default"]}
    return [f"{name}{pins[name]['version']}" for name in SERVING if name in pins]


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
