"""Read predictions back from the files that jobs wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from .. import problem
from ..base.errors import UserError, first_line
from ..data import schema, storage
from ..model import conformal
from . import prediction_log

BATCH_ROWS, ENDING = 65_536, ".parquet"
UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, KeyError)
NEEDED = {"model_version", "role", "scored_at"}


def rows(folder: Path | None = None, since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
    """Every prediction: `prediction_id`, `time`, `model_version`, `role`, `milliseconds`, `record`, `answer`.

    A prediction is identified by its job's run, the file and its row. `since` and `until` are times or their
    beginnings (`2024-01-31`); predictions before `since` or after `until` are left out.

    Raises:
        UserError: the folder, or the store of its address, cannot be read.
    """
    fields, said = (
        [field.name for field in schema.FIELDS],
        [*problem.Answer.model_fields, *(set(conformal.FIELDS) - set(problem.Record.model_fields))],
    )
    system, root = _place(folder)
    for path in _files(system, root):
        name = path[len(root) :].strip("/").removesuffix(ENDING)
        try:
            for number, (time, job, row) in enumerate(_scored(system.open_input_file(path)), 1):
                if time < since or (until and time[: len(until)] > until):
                    continue
                yield {
                    "prediction_id": f"{job.get('job_run_id') or job.get('job', '')}-{name}-{number}",
                    "time": time,
                    "model_version": row["model_version"],
                    "role": row["role"],
                    "milliseconds": None,
                    "record": {name: row[name] for name in (*fields, problem.ID) if name in row},
                    "answer": {name: row[name] for name in said if name in row},
                    **({"share": float(job["share"])} if "share" in job else {}),
                    **({"image": job["image"]} if "image" in job else {}),
                }
        except UNREADABLE as error:
            print(f"warning: {path} is left out: {first_line(error)}", file=sys.stderr)


def _scored(opened: pa.NativeFile) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """For each row of a scored file: its time, the file's metadata about its job, and the values by the names of fields."""
    file = pa.parquet.ParquetFile(opened)
    job = {key.decode(): value.decode(errors="replace") for key, value in (file.metadata.metadata or {}).items()}
    beside = {*problem.Answer.model_fields, *conformal.FIELDS, problem.ID, *NEEDED}
    known = {field.name for field in schema.FIELDS} | beside
    # A published file may have a column of the record with the same name as one of the answer.
    named = {name: name if name in beside else problem.ALIASES.get(name, name) for name in file.schema_arrow.names}
    given = {found: name for name, found in named.items() if found in known}
    if not given.keys() >= NEEDED:
        return  # written by a job of a lower level, or by another program
    for batch in file.iter_batches(BATCH_ROWS, columns=list(given.values())):
        for row in batch.rename_columns([named[name] for name in batch.schema.names]).to_pylist():
            yield row["scored_at"].isoformat(timespec="milliseconds"), job, row


def refused(folder: Path | None = None, since: str = "", until: str = "") -> Iterator[tuple[str, int]]:
    """When rows were rejected, and how many: a pair for each file of rejected rows."""
    system, root = _place(folder)
    rejected = [path for path in _whole(system, root) if path.endswith(f".rejected{ENDING}")]
    for info in system.get_file_info(rejected):
        time = datetime.fromtimestamp(info.mtime_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        if time >= since and (not until or time[: len(until)] <= until):
            try:
                yield time, pa.parquet.ParquetFile(system.open_input_file(info.path)).metadata.num_rows
            except UNREADABLE as error:
                print(f"warning: {info.path} is left out: {first_line(error)}", file=sys.stderr)


def _place(folder: Path | None) -> tuple[pa.fs.FileSystem, str]:
    """The file system of the log, and the folder in it: `PREDICTION_LOG` or `[log] folder` may be a URL."""
    address = str(folder or prediction_log.address())
    where = storage.place(address)
    return where.system, where.path


def _files(system: pa.fs.FileSystem, root: str) -> list[str]:
    """The scored files below a folder, in the order of their names."""
    return [path for path in _whole(system, root) if not path.endswith(f".rejected{ENDING}")]


def _whole(system: pa.fs.FileSystem, root: str) -> list[str]:
    """The files below a folder that jobs have finished."""
    try:
        found = system.get_file_info(pa.fs.FileSelector(root, recursive=True, allow_not_found=True))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{root} cannot be read: {first_line(error)}") from None
    parts = [(each.path, each.path[len(root) :].strip("/").split("/")) for each in found if each.is_file]
    whole = [path for path, names in parts if not any(name.startswith((".", "_")) for name in names)]
    return sorted(path for path in whole if path.endswith(ENDING))
