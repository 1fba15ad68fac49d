"""Where the served model comes from: a folder, a run or a registered version; verified, and kept for a bad day."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from . import package, params
from .cli import UserError, first_line
from .package import ModelError, Package
from .params import ROOT


def locate(uri: str = "") -> Path:
    """The folder of the model that `uri` names, else `MODEL_URI`, else `service.model` in params.toml.

    A folder is taken as it is. `models:/<name>@<alias>`, `models:/<name>/<version>` and `runs:/<id>/model` come from
    MLflow and are kept in the cache (`MODEL_CACHE`); when MLflow is away, what the same URI gave last is used again.

    Raises:
        ModelError: the model can neither be fetched nor found in the cache.
    """
    uri = uri or os.environ.get("MODEL_URI", "") or params.load().service.model
    if not uri.startswith(("models:/", "runs:/")):
        return ROOT / uri
    cache = Path(os.environ.get("MODEL_CACHE", ROOT / ".cache" / "models"))
    kept = cache / "".join(letter if letter.isalnum() else "-" for letter in uri)
    try:
        package.write(_download(uri), kept)
    except ModelError as error:
        if not kept.exists():
            raise
        print(f"warning: {error}; serving the copy in {kept}", file=sys.stderr)
    return kept


def fetch(uri: str = "") -> Package:
    """The model at `locate(uri)`, verified.

    Raises:
        ModelError: there is no such model, or it is damaged.
    """
    return package.read(locate(uri))


def _download(uri: str) -> Package:
    try:
        # Serving from a folder needs none of MLflow; only this way in does.
        import mlflow

        from . import tracking
    except ImportError:
        raise ModelError(f"{uri} needs MLflow, which is not installed here: set MODEL_URI to a model folder") from None
    database = tracking.uri().removeprefix("sqlite:///")
    if tracking.is_local() and not Path(database).exists():
        raise ModelError(
            f"no tracking store at {database}: run `make pipeline` first, or set MODEL_URI to a model folder"
        )
    try:
        client = tracking.connect()
        version = ""
        if uri.startswith("models:/"):
            name, _, alias = uri.removeprefix("models:/").partition("@")
            name, _, number = name.partition("/")
            version = client.get_model_version_by_alias(name, alias).version if alias else number
            uri = f"models:/{name}/{version}"
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(mlflow.artifacts.download_artifacts(uri, dst_path=scratch))
            found = package.read(folder / "data" / "model")
    except (mlflow.exceptions.MlflowException, UserError, OSError) as error:
        raise ModelError(f"{uri} cannot be fetched: {first_line(error)}") from None
    return replace(found, card={**found.card, "model_version": str(version)}) if version else found


def main() -> None:
    """Copy the model that would be served into a folder (`make image` puts it into the image)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    model = fetch()
    package.write(model, output)
    print(json.dumps({"model_version": model.version, "run_id": model.card["run_id"], "folder": str(output)}))
