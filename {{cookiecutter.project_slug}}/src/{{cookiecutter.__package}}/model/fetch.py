"""Fetch a model from MLflow, a run's or a registered version's, and keep a copy for a day when MLflow is away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import urllib.parse
from dataclasses import replace
from pathlib import Path

from ..base.errors import UserError, first_line
from ..base.params import ROOT
from . import bundle, load
from .bundle import Bundle, ModelError

CACHE = ROOT / ".cache" / "models"
KEPT = 20
"""So many fetched models are kept for each server; a service that runs reads its own again when a worker is replaced."""

REMEDY = "run `make pipeline`, or set MODEL_URI=model to use the last training"


def folder(uri: str = "") -> Path:
    """The folder of the model that `uri` names, else of the one that answers (`load.address`); it never changes again.

    `models:/<name>@<alias>`, `models:/<name>/<version>` and `runs:/<id>/model` come from MLflow and are kept in the cache
    (`MODEL_CACHE`); when MLflow is away, what the same URI gave last is used again. Anything else is a folder.

    Raises:
        ModelError: the model can neither be fetched nor found in the cache.
    """
    uri = uri or load.address()
    if not uri.startswith(("models:/", "runs:/")):
        return ROOT / uri
    kept = Path(os.environ.get("MODEL_CACHE", CACHE)) / _store(uri)
    pointer = kept / urllib.parse.quote(uri, safe="")
    try:
        return _keep(approved(uri), kept, pointer)
    except (ModelError, OSError) as error:
        last = kept / pointer.read_text(encoding="utf-8") if pointer.is_file() else pointer
        if not (last / "model.json").is_file():
            raise error if isinstance(error, ModelError) else ModelError(f"{uri} cannot be kept: {error}") from None
        print(f"warning: {error}; serving the copy in {last}", file=sys.stderr)
        return last


def _store(uri: str) -> str:
    """Names the server and the workspace that models come from."""
    try:
        from ..tracking import conventions
    except ImportError:
        # Serving from a folder needs none of MLflow; only this way in does.
        raise ModelError(f"{uri} needs MLflow, which is not installed here: set MODEL_URI to a model folder") from None
    return hashlib.sha256(f"{conventions.uri()} {os.environ.get('MLFLOW_WORKSPACE', '')}".encode()).hexdigest()[:12]


def _keep(found: Bundle, kept: Path, pointer: Path) -> Path:
    """A folder for this content alone, and a pointer to it that is replaced in one step: who reads another is not disturbed."""
    place = kept / f"{found.version}-{found.digest[:16]}"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=kept) as scratch:
        if not place.exists():
            bundle.write(found, Path(scratch) / "model")
            with contextlib.suppress(FileExistsError, OSError) if place.exists() else contextlib.nullcontext():
                (Path(scratch) / "model").rename(place)
        (Path(scratch) / "pointer").write_text(place.name, encoding="utf-8")
        (Path(scratch) / "pointer").replace(pointer)
    place.touch()
    for old in sorted(kept.glob("*-*/"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def approved(uri: str) -> Bundle:
    """The model that `uri` names; one that was made champion has the content that it had then.

    Raises:
        ModelError: it cannot be fetched, or was changed since.
    """
    found = download(uri)
    name = uri.removeprefix("models:/").partition("@")[0].partition("/")[0]
    note = _note(name, found.version) if uri.startswith("models:/") else {}
    if note.get("digest", found.digest) != found.digest:
        raise ModelError(
            f"version {found.version} is not what {note['by']} made champion at {note['at']}: its files were changed since; "
            "promote another version, or this one again if you know why"
        )
    return found


def _note(name: str, number: str) -> dict[str, str]:
    """What the registry's log says of the last time that a version of a model became champion."""
    from ..tracking import conventions, store

    with store.errors():
        (model,) = store.connect().search_registered_models(f"name = '{name}'") or [None]
    notes = (
        [json.loads(text) for key, text in sorted(model.tags.items()) if key.startswith(conventions.MOVE)]
        if model
        else []
    )
    return dict(next((note for note in reversed(notes) if note["now"] == number), {}))


def download(uri: str) -> Bundle:
    """The model that `uri` names, as MLflow has it now.

    Raises:
        ModelError: it cannot be fetched.
    """
    import mlflow

    from ..tracking import conventions, store

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
