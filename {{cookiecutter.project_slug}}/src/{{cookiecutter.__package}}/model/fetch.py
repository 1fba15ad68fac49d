"""Fetch a model from MLflow, a run's or a registered version's, and cache it for when MLflow is unavailable."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..base.errors import UserError, first_line
from ..base.params import ROOT
from . import bundle, load
from .bundle import Bundle, ModelError

CACHE = ROOT / ".cache" / "models"
KEPT = 20
"""The number of cached models per server; a running service reads its model again when a worker is replaced."""

REMEDY = "run `make pipeline`, or set MODEL_URI=model to use the last training"


def folder(uri: str = "", digest: str = "") -> Path:
    """The folder of the model at `uri`, else of the one that answers (`load.address`); its content never changes.

    `models:/<name>@<alias>`, `models:/<name>/<version>` and `runs:/<id>/model` are fetched from MLflow and cached
    (`MODEL_CACHE`); if MLflow is unavailable, the last model fetched from the same URI is used. Anything else is a folder.
    A cached model is not downloaded again if the registry's log, or `digest`, confirms its content.

    Raises:
        ModelError: the model can neither be fetched nor found in the cache, or its content is not `digest`.
    """
    uri = uri or load.address()
    if not uri.startswith(("models:/", "runs:/")):
        return ROOT / uri
    kept = place(uri)
    pointer = kept / urllib.parse.quote(uri, safe="")
    try:
        there = _known(uri, digest, kept) if pointer.is_file() else None
        return _point(there, pointer) if there else _keep(approved(uri, digest), kept, pointer)
    except (ModelError, OSError) as error:
        last = kept / pointer.read_text(encoding="utf-8") if pointer.is_file() else pointer
        if not (last / "model.json").is_file():
            raise error if isinstance(error, ModelError) else ModelError(f"{uri} cannot be kept: {error}") from None
        print(f"warning: {error}; serving the copy in {last}", file=sys.stderr)
        return last


def place(uri: str) -> Path:
    """The cache folder for models of the server and the workspace that `uri` refers to.

    Raises:
        ModelError: MLflow is not installed.
    """
    try:
        from ..tracking import conventions
    except ImportError:
        # Serving from a folder does not need MLflow; only a URI does.
        raise ModelError(f"{uri} needs MLflow, which is not installed here: set MODEL_URI to a model folder") from None
    server = f"{conventions.uri()} {os.environ.get('MLFLOW_WORKSPACE', '')}"
    return Path(os.environ.get("MODEL_CACHE", CACHE)) / hashlib.sha256(server.encode()).hexdigest()[:12]


def _keep(found: Bundle, kept: Path, pointer: Path) -> Path:
    """A folder for this content, and a pointer to it that is replaced atomically: readers of another one are not disturbed."""
    place = kept / f"{found.version}-{found.digest[:16]}"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=kept) as scratch:
        if not place.exists():
            bundle.write(found, Path(scratch) / "model")
            try:
                (Path(scratch) / "model").rename(place)
            except OSError:
                # Another process that began at the same time has made the same folder.
                if not place.is_dir():
                    raise
    _point(place, pointer)
    for old in sorted(kept.glob("*-*/"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def _point(place: Path, pointer: Path) -> Path:
    """Let the pointer name a folder, atomically, and mark the folder as just used."""
    if not pointer.is_file() or pointer.read_text(encoding="utf-8") != place.name:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=pointer.parent) as scratch:
            (Path(scratch) / "pointer").write_text(place.name, encoding="utf-8")
            (Path(scratch) / "pointer").replace(pointer)
    place.touch()
    return place


def _known(uri: str, digest: str, kept: Path) -> Path | None:
    """The folder of the model at `uri`, if it is cached with the content that was approved."""
    name, _, alias = uri.removeprefix("models:/").partition("@")
    name, _, number = name.partition("/")
    if not uri.startswith("models:/"):
        return None
    if alias or not digest:
        try:
            aliases, log = registered(name)
        except UserError:
            return None
        number = aliases.get(alias, "") if alias else number
        digest = digest or _note(log, number).get("digest", "")
    there = kept / f"{number}-{digest[:16]}"
    return there if number and digest and (there / "model.json").is_file() else None


def approved(uri: str, digest: str = "") -> Bundle:
    """The model at `uri`, if its content is what it was when it became champion, or has this `digest`.

    Raises:
        ModelError: it cannot be fetched, or was changed since.
    """
    found = download(uri)
    name = uri.removeprefix("models:/").partition("@")[0].partition("/")[0]
    note = _note(registered(name)[1], found.version) if uri.startswith("models:/") else {}
    if digest and digest != found.digest:
        raise ModelError(f"version {found.version} is not what was given a share: its files were changed since")
    if note.get("digest", found.digest) != found.digest:
        raise ModelError(
            f"version {found.version} is not what {note['by']} made champion at {note['at']}: its files were changed since; "
            "promote another version, or this one again if you know why"
        )
    return found


def _note(log: list[dict[str, str]], number: str) -> dict[str, str]:
    """The registry log's entry for the last time that a version became champion."""
    return next((note for note in log if note["alias"] and note["now"] == number), {})


def registered(name: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The aliases of a registered model and the entries of its log, latest first; empty if there is no such model.

    Raises:
        UserError: the server cannot be reached.
    """
    from ..tracking import store

    with store.errors():
        (found,) = store.connect().search_registered_models(f"name = '{name}'") or [None]
    if found is None:
        return {}, []
    return {alias: str(number) for alias, number in found.aliases.items()}, notes(found.tags)


def notes(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """The entries of the registry's log among the tags of a registered model, latest first."""
    from ..tracking import conventions

    return [dict(json.loads(tags[key])) for key in sorted(tags, reverse=True) if key.startswith(conventions.MOVE)]


def download(uri: str) -> Bundle:
    """The model at `uri`, as MLflow has it now.

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
