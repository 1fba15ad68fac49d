"""What a job finds of its own beside its files: names for what is not finished, and the metadata of what is."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet

from ..data.storage import Place, errors

BLOCK_BYTES = 1 << 22
JOB_FILE = "_job.json"
"""The metadata file in a folder of parts, about the job that wrote it."""


def beside(where: Place, ending: str) -> Place:
    """The path with `ending` added to its whole name: `x.csv` and `x.parquet` get different ones."""
    return Place(where.system, where.path + ending)


def state(where: Place) -> str:
    """Size and modification time: if they differ, the content may differ."""
    info = where.info()
    return f"{info.size}-{info.mtime_ns}"


def digest(where: Place) -> str:
    """SHA-256 of the content, shortened to 16 characters."""
    found = hashlib.sha256()
    with where.system.open_input_stream(where.path, compression=None) as stream:
        while block := stream.read(BLOCK_BYTES):
            found.update(block)
    return found.hexdigest()[:16]


def remove(where: Place) -> None:
    """Remove a file if it exists."""
    with errors(where):
        if where.info().is_file:
            where.system.delete_file(where.path)


def metadata(where: Place) -> dict[str, str]:
    """The metadata of a Parquet file, or of a folder that Spark wrote; empty if there is none."""
    about = where / JOB_FILE
    if about.info().is_file:
        with about.system.open_input_stream(about.path) as stream:
            return dict(json.loads(stream.read()))
    if where.form != "parquet" or not where.info().is_file:
        return {}
    try:
        found = pa.parquet.read_metadata(where.path, filesystem=where.system).metadata or {}
    except pa.ArrowException:
        return {}
    return {key.decode(): value.decode() for key, value in found.items() if key != b"ARROW:schema"}
