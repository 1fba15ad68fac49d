"""Files on this machine or in a store such as S3: resolve names, select parts by date or by row groups."""

from __future__ import annotations

import contextlib
import glob
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from ..base.errors import UserError, first_line
from .read import FORMATS, form

DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-[0-3]\d)?)?")


@dataclass(frozen=True)
class Place:
    """A path in one of pyarrow's file systems; `groups` are row groups of a Parquet file, empty for all."""

    system: pa.fs.FileSystem
    path: str
    groups: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.path

    @property
    def form(self) -> str:
        """`parquet` or `csv`; empty for anything else, such as a folder."""
        return form(self.path)

    def __truediv__(self, relative: str) -> Place:
        return Place(self.system, f"{self.path.rstrip('/')}/{relative}" if relative else self.path)

    def info(self) -> pa.fs.FileInfo:
        """Whether it is a file or a folder, its size, and when it was changed."""
        return self.system.get_file_info(self.path)

    def open(self) -> pa.NativeFile:
        """The file's bytes."""
        return self.system.open_input_file(self.path)


def place(name: str) -> Place:
    """A local path, or a URL such as `s3://bucket/folder`.

    Raises:
        UserError: the URL's scheme is unknown, it has credentials, or its store cannot be reached.
    """
    if "://" not in name:
        return Place(pa.fs.LocalFileSystem(), Path(name).absolute().as_posix())
    if "@" in urllib.parse.urlsplit(name).netloc:
        raise UserError(
            "credentials belong in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY): addresses are logged"
        )
    try:
        return Place(*pa.fs.FileSystem.from_uri(name))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{name} cannot be opened: {first_line(error)}; a path or a URL such as s3://bucket/folder can"
        ) from None


def parts(name: str) -> tuple[str, str, str]:
    """Address, `since` and `until` in the name of a folder's parts, as `s3://bucket/rows?since=2024-01&until=2024-03`."""
    chosen = re.search(r"([?&](since|until)=[^?&]*)+$", name)
    given = dict(urllib.parse.parse_qsl(chosen[0].replace("?", "&"))) if chosen else {}
    return name[: chosen.start()] if chosen else name, given.get("since", ""), given.get("until", "")


def find(name: str, since: str = "", until: str = "") -> list[tuple[Place, str]]:
    """The files that `name` matches (a file, a folder or a glob), each with its path below the folder; in order.

    In a folder whose parts are named after dates (`day=2024-01-31`, `month=2024-01`), `since` and `until` select the
    parts from the first to the last, both included.

    Raises:
        UserError: there is none, or a date is not valid.
    """
    for word, given in (("SINCE", since), ("UNTIL", until)):
        if given and not DATE.fullmatch(given):
            raise UserError(f"{word}={given} is not a date: write it as 2024-01-31, 2024-01 or 2024")
    start = place(name)
    with errors(start):
        kind = start.info().type
        if kind == pa.fs.FileType.File:
            found = [(start, "")]
        else:
            # Only what was typed is a pattern, not the path of the folder in which it was typed.
            above = "" if "://" in name or Path(name).is_absolute() else Path.cwd().as_posix()
            typed, fixed = start.path[len(above) :], start.path
            if kind != pa.fs.FileType.Directory:
                fixed = above + re.split(r"/[^/]*[*?\[]", typed, maxsplit=1)[0] or "/"
            select = pa.fs.FileSelector(fixed, recursive=True, allow_not_found=True)
            paths = sorted(info.path for info in start.system.get_file_info(select) if info.is_file)
            matches = PurePosixPath((glob.escape(above) + typed).lstrip("/"))
            found = [
                (Place(start.system, path), path.removeprefix(fixed).lstrip("/"))
                for path in paths
                if kind == pa.fs.FileType.Directory or PurePosixPath(path.lstrip("/")).match(str(matches))
            ]
            hidden = re.compile(r"(^|/)[._]|\.rejected\.parquet$")
            found = [(file, below) for file, below in found if file.form and not hidden.search(below)]
    if not found:
        raise UserError(f"{name}: there is no such file, nor a folder or pattern with {' or '.join(FORMATS)} files")
    if since or until:
        found = [(file, below) for file, below in found if _between(partition_date(below), since, until)]
        if not found:
            raise UserError(
                f"{name} has no part named after a date from {since or 'the start'} to {until or 'the end'}"
            )
    for file, _ in found:
        if not file.form:
            raise UserError(f"{file}: only {', '.join(FORMATS)} files can be read")
    return found


def partitions(below: str) -> dict[str, str]:
    """The columns that a path such as `day=2024-01-31/part-0.parquet` encodes."""
    return dict(part.split("=", 1) for part in below.split("/")[:-1] if "=" in part)


def partition_date(below: str) -> str:
    """The date in a path, from its first part named after a date, or from parts `year`, `month` and `day`; else empty."""
    keys = partitions(below)
    if "year" in keys:
        return "-".join(keys[name].zfill(2) for name in ("year", "month", "day") if name in keys)
    return next((value for value in keys.values() if DATE.fullmatch(value)), "")


def _between(date: str, since: str, until: str) -> bool:
    return bool(date) and (not since or date >= since[: len(date)]) and (not until or date[: len(until)] <= until)


def together(metadata: pyarrow.parquet.FileMetaData, rows: int, chosen: Sequence[int] = ()) -> Iterator[list[int]]:
    """The row groups of a Parquet file, or those chosen, put together until they have that many rows."""
    groups, held = [], 0
    for group in chosen or range(metadata.num_row_groups):
        groups.append(group)
        held += metadata.row_group(group).num_rows
        if held >= rows:
            yield groups
            groups, held = [], 0
    if groups:
        yield groups


@contextlib.contextmanager
def errors(where: Place) -> Iterator[None]:
    """Turn an error of a store or a disk into one line that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except pa.ArrowException as error:
        raise UserError(f"{where} is not a readable {where.form or 'file'}: {first_line(error)}") from None
    except OSError as error:
        if error.errno is None:  # Arrow's own: a damaged file, or an error of a store
            raise UserError(f"{where}: {first_line(error)}") from None
        error.filename = error.filename or str(where)
        raise
