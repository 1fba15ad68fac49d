"""`data.lock`: which data sets this code was made with, by content; and the way back to exactly those."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from . import download
from .cli import UserError, first_line
from .params import ROOT

FILE = ROOT / "data.lock"
CACHE = ROOT / ".cache" / "data"
"""Contents by their SHA-256."""

Entry = dict[str, Any]


def entries(file: Path | None = None) -> dict[str, Entry]:
    """Path in the project -> `sha256`, `bytes`, `rows`, `span` and `origin` of the data set; of this lock or another one.

    Raises:
        UserError: the file is damaged.
    """
    try:
        found = json.loads((file or FILE).read_text(encoding="utf-8"))
        return {name: dict(entry) for name, entry in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{FILE.name} is damaged ({error}): bring it back with `git checkout {FILE.name}`") from None


def named(path: Path) -> str:
    """What the lock calls a file: its path in the project; nothing where it is outside."""
    place = path.resolve()
    return place.relative_to(ROOT).as_posix() if place.is_relative_to(ROOT) else ""


def fetch(url: str) -> Path:
    """The file at `url` as a local path under data/, fetched unless it is there already.

    Raises:
        UserError: the file cannot be fetched, or its content is not what the lock says.
    """
    path = ROOT / "data" / url.rsplit("/", 1)[-1]
    entry = entries().get(named(path))
    if not path.exists():
        if entry:
            restore(path, entry)
        else:
            download.get(url, path)
    if entry and sha256(path) != entry["sha256"]:
        path.replace(path.with_name(path.name + ".rejected"))
        raise UserError(
            f"{path.name} is not the file that {FILE.name} names (kept as {path.name}.rejected): fetch it again, or "
            f"remove its entry from {FILE.name} if the publisher has corrected it"
        )
    return path


def keep(path: Path, rows: int, span: str, origin: str = "") -> str:
    """Name a data set in the lock as it is now, and keep its content in the cache and in `DATA_STORE`; says so.

    Raises:
        UserError: the file is outside the project, or the store cannot be written.
    """
    name = named(path)
    if not name:
        raise UserError(f"{path} is outside the project: put it under data/ first, so that everybody finds it there")
    known, digest = entries(), sha256(path)
    entry = {"sha256": digest, "bytes": path.stat().st_size, "rows": rows, "span": span}
    entry["origin"] = origin or known.get(name, {}).get("origin", "")
    _copy(path, CACHE / digest)
    where = ["the cache"]
    if os.environ.get("DATA_STORE"):
        system, folder = _store()
        try:
            system.create_dir(folder, recursive=True)
            with path.open("rb") as source, system.open_output_stream(f"{folder}/{digest}") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        except OSError as error:
            raise UserError(f"DATA_STORE={os.environ['DATA_STORE']} cannot be written: {first_line(error)}") from None
        where.append(os.environ["DATA_STORE"])
    write({**known, name: entry})
    return f"{name} is named in {FILE.name} ({digest[:12]}, {rows:,} rows) and kept in {' and '.join(where)}"


def write(known: dict[str, Entry]) -> None:
    """Replace the lock as a whole."""
    partial = FILE.with_name(FILE.name + ".partial")
    partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(FILE)


def difference(path: Path) -> str:
    """How a file differs from what the lock names; nothing where it does not, or is not named."""
    name = named(path)
    entry = entries().get(name)
    if entry is None or sha256(path) == entry["sha256"]:
        return ""
    return (
        f"{name} is not the file that {FILE.name} names ({entry['rows']:,} rows, {entry['sha256'][:12]}): "
        f"`make data` brings that one back, `make data KEEP={name}` names this one"
    )


def restore_all() -> Iterator[str]:
    """Bring back every data set that is missing or different; a line for each.

    Raises:
        UserError: a content is found nowhere. A file of another content is kept beside it, as `.<hash>.replaced`.
    """
    for name, entry in entries().items():
        path = ROOT / name
        if path.exists() and sha256(path) == entry["sha256"]:
            yield f"{name} is what {FILE.name} names"
            continue
        found = restore(path, entry)
        yield f"{name} came back from {found} ({entry['rows']:,} rows)"


def restore(path: Path, entry: Entry) -> str:
    """Bring one data set back; gives where its content was found."""
    digest, tried = entry["sha256"], []
    path.parent.mkdir(parents=True, exist_ok=True)
    # Always the same name, so that a download that broke off goes on.
    partial = path.with_name(path.name + ".incoming")
    try:
        for where, get in _sources(digest, entry):
            tried.append(where)
            try:
                get(partial)
            except (OSError, UserError, pa.ArrowException):
                continue
            if sha256(partial) == digest:
                if path.exists():
                    path.replace(path.with_name(f"{path.name}.{sha256(path)[:8]}.replaced"))
                partial.replace(path)
                _copy(path, CACHE / digest)
                return where
    finally:
        partial.unlink(missing_ok=True)
    raise UserError(
        f"{path.name} with SHA-256 {digest[:12]} is not in {', '.join(tried)}: set DATA_STORE to the folder or s3:// address "
        "that has it, or ask whoever committed data.lock"
    )


def _sources(digest: str, entry: Entry) -> Iterator[tuple[str, Any]]:
    yield "the cache", lambda to: shutil.copyfile(CACHE / digest, to)
    if os.environ.get("DATA_STORE"):
        yield os.environ["DATA_STORE"], lambda to: _from_store(digest, to)
    if "://" in entry["origin"]:
        yield entry["origin"], lambda to: download.get(entry["origin"], to)


def _from_store(digest: str, target: Path) -> None:
    system, folder = _store()
    with system.open_input_stream(f"{folder}/{digest}") as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _store() -> tuple[pa.fs.FileSystem, str]:
    """The file system of `DATA_STORE` and the folder in it."""
    address = os.environ["DATA_STORE"]
    if "://" not in address:
        return pa.fs.LocalFileSystem(), str(Path(address).expanduser().resolve())
    try:
        system, folder = pa.fs.FileSystem.from_uri(address)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"DATA_STORE={address} cannot be opened: {first_line(error)}") from None
    return system, folder.rstrip("/")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(path: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(path, partial)
        partial.replace(target)
