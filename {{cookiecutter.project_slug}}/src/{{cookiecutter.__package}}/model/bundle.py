"""A trained model as a portable folder, a bundle: the model itself, and `model.json`, which describes it and its origin."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import UserError

FORMAT = 1
"""Incremented when older code could no longer read a bundle."""

FILES = ("model.onnx", "model.skops")
"""The formats of a model: an ONNX graph, or a skops file if an estimator has no converter. Never a pickle."""


WRITTEN = ("format", "graph_sha256", "extras_sha256", "model_version")
"""Keys that are added to a card when the bundle is stored or served."""


class ModelError(UserError):
    """A model that is missing, damaged, or made for something else; the message says which and what to do."""


class MismatchError(ModelError):
    """A model that was made for other records or features than this code's."""


@dataclass(frozen=True)
class Bundle:
    """A model's bytes and its card, which names the file they are stored in; and the other files that a level adds."""

    graph: bytes
    card: dict[str, Any]
    extras: dict[str, bytes] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """`model.onnx` or `model.skops`."""
        return str(self.card.get("file", FILES[0]))

    @property
    def version(self) -> str:
        """The registered version, or the run that made it if it was never registered."""
        return str(self.card.get("model_version") or f"run-{self.card['run_id'][:8]}")

    @property
    def digest(self) -> str:
        """The SHA-256 of its content: the model, the card and what a level adds, without the version's number."""
        card = {name: value for name, value in self.card.items() if name not in WRITTEN}
        files = {name: _sha256(content) for name, content in {self.file: self.graph, **self.extras}.items()}
        return _sha256(json.dumps([card, files], sort_keys=True).encode())


def read(folder: Path) -> Bundle:
    """The bundle in `folder`, checked against its own checksums.

    Raises:
        ModelError: there is none, it is damaged, or it is too new.
    """
    if not (folder / "model.json").is_file():
        raise ModelError(f"no model in {folder}: run `make train`, or set MODEL_URI to a folder that has one")
    damaged = f"the model in {folder} is damaged"
    try:
        card = json.loads((folder / "model.json").read_bytes())
        too_new, _ = card["format"] > FORMAT, card["run_id"]
        name = FILES[FILES.index(card.get("file", FILES[0]))]
        digests = {name: card["graph_sha256"], **card.get("extras_sha256", {})}
        if any(not file or Path(file).name != file or len(file) > 200 for file in digests):
            raise ValueError("it names files elsewhere")
        content = {file: (folder / file).read_bytes() for file in digests}
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError, IsADirectoryError) as error:
        raise ModelError(f"{damaged} ({type(error).__name__}: {error}): train or fetch it again") from None
    if too_new:
        raise ModelError(f"the model in {folder} was made by a newer version of this project: update, or train again")
    for file, wanted in digests.items():
        if _sha256(content[file]) != wanted:
            raise ModelError(f"{damaged} ({file} does not match model.json): train or fetch it again")
    return Bundle(content.pop(name), card, content)


def write(bundle: Bundle, folder: Path) -> None:
    """Write the bundle to `folder`; what is there is replaced only once all of it is written."""
    digests = {name: _sha256(content) for name, content in bundle.extras.items()}
    card = {**bundle.card, "format": FORMAT, "graph_sha256": _sha256(bundle.graph), "extras_sha256": digests}
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = partial / "new"
        new.mkdir()
        for name, content in {bundle.file: bundle.graph, **bundle.extras}.items():
            (new / name).write_bytes(content)
        (new / "model.json").write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        if folder.exists():
            # A folder cannot be replaced in one step; the old one is moved away between two renames.
            folder.rename(partial / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def code_digest(package: Path) -> str:
    """The SHA-256 of a package's files and their names, without compiled files."""
    files = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    named = [(path.relative_to(package).as_posix(), _sha256(path.read_bytes())) for path in files]
    return _sha256(json.dumps(named).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
