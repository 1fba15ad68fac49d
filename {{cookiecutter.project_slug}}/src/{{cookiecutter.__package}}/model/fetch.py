"""Fetch a model from MLflow, a run's or a registered version's, and keep a copy for a day when MLflow is away."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from ..base.errors import UserError, first_line
from ..base.params import ROOT
from . import bundle, load
from .bundle import Bundle, ModelError

CACHE = ROOT / ".cache" / "models"
REMEDY = "run `make pipeline`, or set MODEL_URI=model to use the last training"


def folder(uri: str = "") -> Path:
    """The folder of the model that `uri` names, else of the one that answers (`load.address`).

    `models:/<name>@<alias>`, `models:/<name>/<version>` and `runs:/<id>/model` come from MLflow and are kept in the cache
    (`MODEL_CACHE`); when MLflow is away, what the same URI gave last is used again. Anything else is a folder.

    Raises:
        ModelError: the model can neither be fetched nor found in the cache.
    """
    uri = uri or load.address()
    if not uri.startswith(("models:/", "runs:/")):
        return ROOT / uri
    kept = Path(os.environ.get("MODEL_CACHE", CACHE)) / "".join(each if each.isalnum() else "-" for each in uri)
    try:
        bundle.write(_download(uri), kept)
    except ModelError as error:
        if not kept.exists():
            raise
        print(f"warning: {error}; serving the copy in {kept}", file=sys.stderr)
    return kept


def _download(uri: str) -> Bundle:
    try:
        # Serving from a folder needs none of MLflow; only this way in does.
        import mlflow

        from ..tracking import conventions, store
    except ImportError:
        raise ModelError(f"{uri} needs MLflow, which is not installed here: set MODEL_URI to a model folder") from None
    database = Path(conventions.uri().removeprefix("sqlite:///"))
    if conventions.is_local() and not database.exists():
        raise ModelError(f"nothing has been trained yet (there is no {database}): run `make pipeline`")
    try:
        client, number = store.connect(), ""
        if uri.startswith("models:/"):
            name, _, alias = uri.removeprefix("models:/").partition("@")
            name, _, number = name.partition("/")
            number = str(client.get_model_version_by_alias(name, alias).version if alias else number)
            uri = f"models:/{name}/{number}"
        with tempfile.TemporaryDirectory() as scratch:
            found = bundle.read(Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch)) / "data" / "model")
    except (mlflow.exceptions.MlflowException, UserError, OSError) as error:
        if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise ModelError(f"{uri} is not registered ({first_line(error)}): {REMEDY}") from None
        raise ModelError(f"{uri} cannot be fetched: {first_line(error)}") from None
    return replace(found, card={**found.card, "model_version": number}) if number else found
