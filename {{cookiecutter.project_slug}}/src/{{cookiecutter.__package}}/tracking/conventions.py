"""The project's MLflow conventions: where runs go, their names, what is logged and the tags of each run."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import dotenv

from ..base import params
from ..base.errors import UserError
from ..base.params import ROOT

# Before MLflow is imported. The environment takes precedence over .env.
try:
    dotenv.load_dotenv(ROOT / ".env")
except UnicodeDecodeError as error:
    raise UserError(f".env is not UTF-8 ({error.reason} at byte {error.start + 1}): save it as UTF-8") from None
DEFAULTS = {
    # No telemetry, no progress bar per downloaded file, no printed URLs of runs.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # An unavailable server is noticed in seconds; MLflow would retry for minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "8",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
os.environ.update({**DEFAULTS, **os.environ})

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.types.schema import ColSpec, Schema

from ..data import schema
from ..data.clean import Dataset
from . import moved_store


class Tracking(params.Section):
    """Where runs and models go: a server's address, or empty for an SQLite file in the project."""

    table = "tracking"
    uri: str = ""


@dataclass
class Run:
    """A training: its run, and once there is a model its folder, its card and, if MLflow has it, its URI."""

    run_id: str
    model_uri: str = ""
    folder: Path = ROOT / "model"
    card: dict[str, Any] = field(default_factory=dict)


MOVE = "move."
"""The prefix of the registered model's tags that are the champion's log; on a server only a maintainer writes them."""

SERVING = ("mlflow", "numpy", "onnxruntime", "pandas", "pydantic")
"""The logged model's requirements, with the versions of the lock; letting MLflow infer them would take ten seconds a run."""


def point_mlflow_at(address: str) -> None:
    """Let MLflow use the store at `address` for runs and models; creates a new SQLite file."""
    # Errors are reported once, by `store.errors`; MLflow would also log them with their traceback.
    for noisy in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="mlflow")
    given = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    # MLflow also overwrites the user's variable: it is restored, because `uri` reads it, and it must never be unset,
    # because another thread may read it.
    if given is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = given
    if address.startswith("sqlite:///"):
        database = Path(address.removeprefix("sqlite:///"))
        moved_store.correct(database, artifacts(database)) if database.exists() else _create(database)


def _create(database: Path) -> None:
    """Create an SQLite store completely or not at all: MLflow cannot open one whose creation was interrupted."""
    with tempfile.TemporaryDirectory(prefix=f".{database.name}-", dir=database.parent) as scratch:
        made = Path(scratch) / database.name
        store = SqlAlchemyStore(f"sqlite:///{made.as_posix()}", artifacts(database))  # type: ignore[no-untyped-call]
        store.engine.dispose()
        if not database.exists():  # else another process was faster
            made.replace(database)


def artifacts(database: Path) -> str:
    """The artifact folder of an SQLite store: beside it."""
    return (database.absolute().parent / "mlartifacts").as_uri()


def uri() -> str:
    """The tracking store: `MLFLOW_TRACKING_URI`, else `tracking.uri` of params.toml, else this project's SQLite file."""
    given = os.environ.get("MLFLOW_TRACKING_URI") or Tracking.load().uri
    if given.startswith("sqlite:"):  # `mlflow run` gives a path with spaces as %20, which MLflow cannot open
        given = unquote(given)
    return given.rstrip("/") or f"sqlite:///{(ROOT / 'mlflow.db').as_posix()}"


def is_local(address: str = "") -> bool:
    """Whether runs go to a file instead of a server."""
    return not (address or uri()).startswith("http")


def look() -> str:
    """The address or command to look at runs."""
    return "make ui" if is_local() else uri()


def model_name() -> str:
    """The registered model: one per project, with the project's name."""
    return params.names()["name"]


def experiment_name() -> str:
    """`<team>/<project>`, so that teams that share a server are separate."""
    return "{team}/{name}".format(**params.names())


def experiment(part: str = "") -> str:
    """The id of the project's experiment, or of a part of it such as `scoring`; it is created if there is none."""
    name = experiment_name() + (f"/{part}" if part else "")
    client = mlflow.MlflowClient()
    if (found := client.get_experiment_by_name(name)) is None:
        store = mlflow.get_tracking_uri()
        location = artifacts(Path(store.removeprefix("sqlite:///"))) if store.startswith("sqlite:///") else None
        kind = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return client.create_experiment(name, artifact_location=location, tags=kind)
        except MlflowException:
            if (found := client.get_experiment_by_name(name)) is None:  # and no other process was faster
                raise
    return str(found.experiment_id)


def log_inputs(train: Dataset, validation: Dataset, settings: params.Params) -> None:
    """Log the settings and both data sets to the active run: their description and origin, not their values."""
    import pandas as pd
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    flat = pd.json_normalize(settings.model_dump(), sep=".").iloc[0]
    mlflow.log_params({str(name): value for name, value in flat.items()})
    for dataset, context in ((train, "training"), (validation, "validation")):
        source = CodeDatasetSource({"source": dataset.name, "rows": str(dataset.rows)})
        known = MetaDataset(source, dataset.name[:500], dataset.fingerprint, record_schema())  # type: ignore[abstract]
        mlflow.log_input(known, context=context)


def record_schema() -> Schema:
    """The fields of a record as an MLflow schema; those that may be missing are not required."""
    names = {"int64": "long", "float64": "double", "bool": "boolean", "datetime64[us]": "datetime", "object": "string"}
    return Schema([ColSpec(names[field.dtype], field.name, required=field.required) for field in schema.FIELDS])


def tags(train: Dataset, validation: Dataset) -> dict[str, str]:
    """The tags of every run: who made it, from which code, data and lock, and why."""
    return {
        **code_tags(),
        "data_source": train.name,
        "data_fingerprint": f"{train.fingerprint}-{validation.fingerprint}",
        "data_span": f"{train.span[0]} to {validation.span[1]}" if train.span[0] else "",
    }


def code_tags() -> dict[str, str]:
    """The tags that do not depend on data."""
    names = params.names()
    lock = ROOT / "Pipfile.lock"
    # If a repository around this folder does not track it, its commit is not one of this code.
    tracked = _git("ls-files", "pyproject.toml")
    commit = (tracked and _git("rev-parse", "HEAD")) or os.environ.get("GIT_COMMIT") or "none"
    trigger = os.environ.get("TRIGGER", "manual")
    # A round of operation itself adds its training rows to data.lock.
    changed = _git("status", "--porcelain", ".", *[":!data.lock"] * trigger.startswith("operate "))
    return {
        "team": names["team"],
        "git_commit": commit,
        "mlflow.source.git.commit": commit,
        "git_dirty": str(bool(tracked and changed)).lower(),
        "lock_fingerprint": hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.exists() else "none",
        "template_version": names["template"],
        "trigger": trigger,
    }


def requirements(file: str) -> list[str]:
    """The pinned requirements of the logged model that is stored in `file`, from the lock."""
    lock = json.loads((ROOT / "Pipfile.lock").read_bytes())
    pins = {**lock.get("train", {}), **lock["default"]}
    needed = (*SERVING, *(("scikit-learn", "skops") if file.endswith(".skops") else ()))
    return [f"{name}{pins[name]['version']}" for name in needed if name in pins]


def _git(*words: str) -> str:
    try:
        return subprocess.check_output(["git", "-C", str(ROOT), *words], stderr=subprocess.DEVNULL, text=True).strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return ""
