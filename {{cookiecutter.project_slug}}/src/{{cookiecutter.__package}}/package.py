"""A trained model as a portable folder: the model itself, and `model.json` that says what it is and where it comes from."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cli import UserError

FORMAT = 1
"""Raised when older code could no longer read a package."""

FILES = ("model.onnx", "model.skops")
"""What a model is kept in: an ONNX graph, or a skops file where an estimator has no converter. Never a pickle."""

EXPLAINER = "explain.npz"
"""What explanations need: the leaves of a model's trees, or rows to compare with."""


class ModelError(UserError):
    """A model that is missing, damaged, or made for something else; the message says which and what to do."""


@dataclass(frozen=True)
class Package:
    """A model's bytes, its description, which names the file that they are kept in, and what explanations need."""

    graph: bytes
    card: dict[str, Any]
    explainer: bytes = b""

    @property
    def file(self) -> str:
        """`model.onnx` or `model.skops`."""
        return str(self.card.get("file", FILES[0]))

    @property
    def version(self) -> str:
        """The registered version, or the run that made it where it was never registered."""
        return str(self.card.get("model_version") or f"run-{self.card['run_id'][:8]}")


def read(folder: Path) -> Package:
    """The package in `folder`, its content checked against its own checksum.

    Raises:
        ModelError: there is none, it is damaged, or it is too new.
    """
    if not (folder / "model.json").is_file():
        raise ModelError(f"no model in {folder}: run `make train`, or set MODEL_URI to a folder that has one")
    try:
        card = json.loads((folder / "model.json").read_bytes())
        version, checksum, _ = card["format"], card["graph_sha256"], card["run_id"]
        name = FILES[FILES.index(card.get("file", FILES[0]))]
        graph = (folder / name).read_bytes()
        explainer = (folder / EXPLAINER).read_bytes() if "explainer_sha256" in card else b""
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise ModelError(
            f"the model in {folder} is damaged ({type(error).__name__}: {error}): train or fetch it again"
        ) from None
    if version > FORMAT:
        raise ModelError(f"the model in {folder} was made by a newer version of this project: update, or train again")
    for file, content, wanted in ((name, graph, checksum), (EXPLAINER, explainer, card.get("explainer_sha256"))):
        if wanted and _sha256(content) != wanted:
            raise ModelError(
                f"the model in {folder} is damaged ({file} does not match model.json): train or fetch it again"
            )
    return Package(graph, card, explainer)


def write(package: Package, folder: Path) -> None:
    """Put the package into `folder`, replacing what is there only once all of it is written."""
    card = {**package.card, "format": FORMAT, "graph_sha256": _sha256(package.graph)}
    card.pop("explainer_sha256", None)
    if package.explainer:
        card["explainer_sha256"] = _sha256(package.explainer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = partial / "new"
        new.mkdir()
        (new / package.file).write_bytes(package.graph)
        if package.explainer:
            (new / EXPLAINER).write_bytes(package.explainer)
        (new / "model.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            # A folder cannot be replaced in one step; the old one steps aside for the moment between two renames.
            folder.rename(partial / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
