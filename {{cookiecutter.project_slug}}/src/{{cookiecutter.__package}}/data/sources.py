"""What `DATA=` and `[data] source` can name: a file, a folder, a pattern, a URL or an address in a store; and their rows."""

from __future__ import annotations

import hashlib
import sys
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from ..base import params
from ..base.errors import UserError
from . import data_lock, read, storage
from .read import File
from .storage import Place


def rows(settings: params.Data, source: str = "") -> tuple[str, dict[str, NDArray[Any]]]:
    """Like `read.rows`, but `source` may be whatever `files` finds; prints a warning if a file is not the one that the lock names.

    Raises:
        UserError: the file is missing, damaged, or lacks a column.
    """
    if not (source := asked(settings, source)):
        return read.rows(settings)
    columns = read.read(source, among=(found := files(source)))
    check(source, found, lambda: (len(next(iter(columns.values()))), data_lock.span(columns)))
    return source, columns


def check(source: str, found: Sequence[File], told: Callable[[], tuple[int, str]]) -> None:
    """Print a warning for each file that differs from its entry in the lock; one that was downloaded and has none gets it.

    `told` gives the number of its rows and the times they span.

    Raises:
        UserError: `DATA_STORE` cannot be written.
    """
    for path in [] if "://" in source and not published(source) else [Path(str(each)) for each in found]:
        if published(source) and data_lock.named(path) not in data_lock.entries():
            data_lock.add(path, *told(), source)
        elif different := data_lock.difference(path):
            print(f"warning: {different}", file=sys.stderr)


def asked(settings: params.Data, source: str) -> str:
    """`source`, else `settings.source`; of the latter some parts if `source` has only `?since=...`.

    Raises:
        UserError: there is nothing that has parts.
    """
    if not source.startswith("?"):
        return source or settings.source
    if not settings.source:
        raise UserError("SINCE and UNTIL choose parts of a folder: name it, as DATA=s3://bucket/rows")
    return settings.source + source


def published(source: str) -> bool:
    """Whether it is the URL of a file to download."""
    return source.startswith(("http://", "https://"))


def divided(source: str) -> bool:
    """Whether it is a folder, a pattern or an address in a store: one that may have several files, which no lock names."""
    address = storage.parts(source)[0]
    if "://" in address:
        return not published(source)
    return Path(address).is_dir() or (not Path(address).exists() and bool(set("*?[") & set(address)))


def files(source: str) -> Sequence[Path | Place]:
    """The files of a path, a pattern or a URL, in order; of a folder those that `storage.find` finds. One that is published is fetched.

    Raises:
        UserError: there is none, or it cannot be fetched.
    """
    address, since, until = storage.parts(source)
    if published(source):
        if since or until:
            raise UserError("SINCE and UNTIL choose parts of a folder, and a published file is one: leave them out")
        return [fetch(source)]
    if since or until or divided(source):
        return [place for place, _ in storage.find(address, since, until)]
    return [Path(source)]


def fetch(url: str) -> Path:
    """The file at `url` as a local path under data/; downloaded unless it is there already.

    Raises:
        UserError: the file cannot be fetched, or its checksum is not the one in the lock.
    """
    path = _place(url)
    entry = data_lock.entries().get(data_lock.named(path))
    if not path.exists():
        if entry:
            data_lock.restore(path, entry)
        else:
            path.parent.mkdir(exist_ok=True)
            data_lock.download(url, path)
    if entry and data_lock.sha256(path) != entry["sha256"]:
        path.replace(path.with_name(path.name + ".rejected"))
        raise UserError(
            f"{path.name} is not the file that {data_lock.FILE.name} names (kept as {path.name}.rejected): fetch it again, or "
            f"remove its entry from {data_lock.FILE.name} if the publisher has corrected it"
        )
    return path


def _place(url: str) -> Path:
    """Where the file at `url` is stored: under its own name, with its digest added if another file has that name."""
    path = params.ROOT / "data" / (PurePosixPath(urllib.parse.urlsplit(url).path).name or "data")
    entry = data_lock.entries().get(data_lock.named(path))
    other = entry["origin"] != url if entry else path.exists()
    return path.with_stem(f"{path.stem}-{hashlib.sha256(url.encode()).hexdigest()[:8]}") if other else path
