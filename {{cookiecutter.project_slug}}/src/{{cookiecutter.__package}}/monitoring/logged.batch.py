"""What was predicted, read back from the files that jobs wrote."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from .. import problem
from ..base.errors import UserError, first_line
from ..data import schema
from . import prediction_log

BATCH_ROWS, ENDING = 65_536, ".parquet"


def rows(folder: Path | None = None, since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
    """Every prediction: `prediction_id`, `time`, `model_version`, `role`, `milliseconds`, `record`, `answer`.

    A prediction is named by the run of its job, the file and its place there. `since` and `until` are the beginnings of
    times (`2024-01-31`); what ends before the one or begins after the other is left out.

    Raises:
        UserError: the folder, or the store of its address, cannot be read.
    """
    fields, said = [field.name for field in schema.FIELDS], list(problem.Answer.model_fields)
    system, root = _place(folder)
    for path in _files(system, root):
        file = pa.parquet.ParquetFile(system.open_input_file(path))
        job = (file.schema_arrow.metadata or {}).get(b"job_run_id", b"").decode()
        name = path[len(root) :].strip("/").removesuffix(ENDING)
        given = {problem.ALIASES.get(name, name): name for name in file.schema_arrow.names}
        if not {"model_version", "role", "scored_at"} <= set(given):
            continue  # written by a job of a lower level, or by another program
        number = 0
        for batch in file.iter_batches(BATCH_ROWS):
            for row in batch.to_pylist():
                time = row["scored_at"].isoformat(timespec="milliseconds")
                number += 1
                if time < since or (until and time[: len(until)] > until):
                    continue
                yield {
                    "prediction_id": f"{job}-{name}-{number}",
                    "time": time,
                    "model_version": row["model_version"],
                    "role": row["role"],
                    "milliseconds": None,
                    "record": {name: row[given[name]] for name in (*fields, problem.ID) if name in given},
                    "answer": {name: row.get(name) for name in said},
                }


def refused(folder: Path | None = None, since: str = "", until: str = "") -> Iterator[tuple[str, int]]:
    """When rows were rejected, and how many: a pair for each job's file of them."""
    system, root = _place(folder)
    rejected = [path for path in _whole(system, root) if path.endswith(f".rejected{ENDING}")]
    for info in system.get_file_info(rejected):
        time = datetime.fromtimestamp(info.mtime_ns / 1e9, UTC).isoformat(timespec="milliseconds")
        if time >= since and (not until or time[: len(until)] <= until):
            yield time, pa.parquet.ParquetFile(system.open_input_file(info.path)).metadata.num_rows


def _place(folder: Path | None) -> tuple[pa.fs.FileSystem, str]:
    """The store that holds the log, and the folder in it: `PREDICTION_LOG` or `[log] folder` may be an address."""
    address = str(folder or prediction_log.address())
    try:
        return pa.fs.FileSystem.from_uri(address) if "://" in address else (pa.fs.LocalFileSystem(), address)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{address} cannot be read: {first_line(error)}") from None


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
