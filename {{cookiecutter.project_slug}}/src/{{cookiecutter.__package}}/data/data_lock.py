"""`data.lock` lists the data sets that this code was run with, by checksum; `make data` restores exactly those."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import requests
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from tqdm import tqdm

from .. import problem
from ..base.errors import UserError, first_line
from ..base.fields import Columns
from ..base.params import ROOT
from . import clean

FILE = ROOT / "data.lock"
CACHE = ROOT / ".cache" / "data"
"""Files by their SHA-256; `DATA_STORE` is a folder or an `s3://` address with the same layout, for the whole team."""

TIMEOUT_SECONDS = 20
LONGEST = 200
"""Of a file name, so that every file system accepts it."""


class Entry(BaseModel):
    """What the lock records about a data set."""

    model_config = ConfigDict(extra="allow")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int
    rows: int
    span: str = ""
    origin: str = ""


ENTRIES = TypeAdapter(dict[str, Entry])


def entries(file: Path | None = None) -> dict[str, dict[str, Any]]:
    """Path in the project -> `sha256`, `bytes`, `rows`, `span` and `origin` of the data set; from this lock or another `file`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        known = ENTRIES.validate_json((file or FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))[:80]
        raise UserError(
            f"{FILE.name} is damaged ({where}{': ' if where else ''}{error.errors()[0]['msg']}): bring it back with `git checkout {FILE.name}`"
        ) from None
    for name in known:
        if len(name) > LONGEST or not name.isprintable() or not named(ROOT / name) or (ROOT / name).is_dir():
            raise UserError(f"{FILE.name} names {name[:80]!r}, which is no file of this project: remove that entry")
    return {name: entry.model_dump() for name, entry in known.items()}


def named(path: Path) -> str:
    """The file's name in the lock: its path in the project; empty if it is outside."""
    place = path.resolve()
    return place.relative_to(ROOT).as_posix() if place.is_relative_to(ROOT) else ""


def keep(path: Path, columns: Columns, origin: str = "") -> str:
    """Add a data set to the lock and store a copy in the cache and in `DATA_STORE`; returns a line that says so.

    `columns` are what `read.read` returns for it.

    Raises:
        UserError: the file is outside the project, or the store cannot be written.
    """
    if not named(path):
        raise UserError(f"{path} is outside the project: put it under data/ first, so that everybody finds it there")
    return add(path, len(next(iter(columns.values()))), span(columns), origin)


def add(path: Path, count: int, times: str, origin: str) -> str:
    """As `keep`, of a file with `count` rows that span these `times`.

    Raises:
        UserError: the store cannot be written.
    """
    known, digest, name = entries(), sha256(path), named(path)
    entry = {"sha256": digest, "bytes": path.stat().st_size, "rows": count, "span": times}
    entry["origin"] = origin or known.get(name, {}).get("origin", "")
    stores = _stores()
    for store, place in stores.items():
        try:
            _put(path, digest, *place)
        except OSError as error:
            raise UserError(f"DATA_STORE={store} cannot be written: {first_line(error)}") from None
    partial = FILE.with_name(FILE.name + ".partial")
    partial.write_text(json.dumps({**known, name: entry}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(FILE)
    return f"{name} is named in {FILE.name} ({digest[:12]}, {count:,} rows) and kept in {' and '.join(stores)}"


def span(columns: Columns) -> str:
    """The first and the last time of rows as `read.read` returns them; empty if they have none."""
    if not problem.TIME:
        return ""
    times = clean.prepared(columns)[problem.TIME]
    known = times[~np.isnat(times)].astype("datetime64[s]")
    return f"{known.min()} to {known.max()}" if len(known) else ""


def difference(path: Path) -> str:
    """How a file differs from the lock's entry; empty if it does not, or has no entry."""
    name = named(path)
    entry = entries().get(name)
    if entry is None or sha256(path) == entry["sha256"]:
        return ""
    return (
        f"{name} is not the file that {FILE.name} names ({entry['rows']:,} rows, {entry['sha256'][:12]}): "
        f"`make data` brings that one back, `make data KEEP={name}` names this one"
    )


def restore_all() -> Iterator[str]:
    """Restore every data set that is missing or different; yields a line for each.

    Raises:
        UserError: a file is found nowhere. A file with different content is renamed to `.<hash>.replaced`.
    """
    for name, entry in entries().items():
        path = ROOT / name
        if path.exists() and sha256(path) == entry["sha256"]:
            yield f"{name} matches {FILE.name}"
            continue
        found = restore(path, entry)
        yield f"{name} was restored from {found} ({entry['rows']:,} rows)"


def restore(path: Path, entry: dict[str, Any]) -> str:
    """Restore one data set; returns where its content was found."""
    digest = entry["sha256"]
    sources: dict[str, Callable[[Path], None]] = {
        store: lambda to, system=system, folder=folder: pa.fs.copy_files(  # type: ignore[misc]
            f"{folder}/{digest}", str(to), source_filesystem=system
        )
        for store, (system, folder) in _stores().items()
    }
    if "://" in entry["origin"]:
        sources[entry["origin"]] = lambda to: download(entry["origin"], to)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".incoming")
    try:
        for where, get in sources.items():
            try:
                get(partial)
            except (OSError, UserError, pa.ArrowException):
                continue
            if sha256(partial) == digest:
                if path.exists():
                    path.replace(path.with_name(f"{path.name}.{sha256(path)[:8]}.replaced"))
                partial.replace(path)
                _put(path, digest, *_cache())
                return where
    finally:
        partial.unlink(missing_ok=True)
    raise UserError(
        f"{path.name} with SHA-256 {digest[:12]} is not in {', '.join(sources)}: set DATA_STORE to the folder or s3:// "
        "address that has it, or ask who committed data.lock"
    )


def _cache() -> tuple[pa.fs.FileSystem, str]:
    return pa.fs.LocalFileSystem(), str(CACHE)


def _stores() -> dict[str, tuple[pa.fs.FileSystem, str]]:
    """Name -> file system and folder: the cache, and `DATA_STORE` if it is set."""
    found = {"the cache": _cache()}
    if address := os.environ.get("DATA_STORE", ""):
        try:
            local = str(Path(address).expanduser().resolve())
            found[address] = pa.fs.FileSystem.from_uri(address if "://" in address else local)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"DATA_STORE={address} cannot be opened: {first_line(error)}") from None
    return found


def _put(path: Path, digest: str, system: pa.fs.FileSystem, folder: str) -> None:
    """Copy a file to a store, completely or not at all."""
    if not system.get_file_info(f"{folder}/{digest}").is_file:
        system.create_dir(folder, recursive=True)
        pa.fs.copy_files(str(path), f"{folder}/{digest}.partial", destination_filesystem=system)
        system.move(f"{folder}/{digest}.partial", f"{folder}/{digest}")


def download(url: str, path: Path) -> None:
    """Download `url` to `path`, completely or not at all.

    Raises:
        UserError: it cannot be fetched.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as answer, partial.open("wb") as file:
            answer.raise_for_status()
            size = int(answer.headers.get("Content-Length") or 0) or None
            with tqdm.wrapattr(file, "write", total=size, desc=path.name, leave=False) as counted:
                for block in answer.iter_content(1 << 20):
                    counted.write(block)
        partial.replace(path)
    except requests.RequestException as error:
        raise UserError(
            f"cannot fetch {url} ({first_line(error)}): check the network and run it again, or fetch the file yourself "
            f"and train on it: make train DATA={path.name}"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
