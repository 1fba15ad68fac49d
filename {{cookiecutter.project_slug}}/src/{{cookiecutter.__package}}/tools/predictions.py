"""Logged predictions: those of a period as one table in Parquet, or one with everything it depends on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from .. import problem
from ..base.errors import Parser, UserError, first_line
from ..base.fields import plain
from ..data import schema
from ..model import conformal
from ..model.ab_split import known_as
from ..model.predictor import PREDICTION
from ..monitoring import logged, prediction_log
from . import registry

ROWS = 50_000
"""The number of rows processed at a time."""

TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def kinds(since: str = "", until: str = "") -> pa.Schema:
    """The columns: id, time and version of each prediction, the record's fields and id, and the answer's fields.

    Those of an interval are among them if any of the period's answers has one: params.toml says only how the next model is trained.
    """
    # A field that is hashed in the log is text there.
    texts = {field.name for field in schema.FIELDS if field.dtype == "object"} | set(getattr(problem, "PRIVATE", ()))
    record = [
        (each.name, pa.string() if each.name in texts else pa.from_numpy_dtype(each.dtype)) for each in schema.FIELDS
    ]
    said = [
        (name, TYPES.get(plain(info.annotation, [])[0], pa.string()))
        for name, info in problem.Answer.model_fields.items()
    ]
    ends = _logged(set(conformal.FIELDS) - set(problem.Record.model_fields), since, until)
    said += [(name, pa.float64() if "number" in each["type"] else pa.string()) for name, each in conformal.FIELDS.items() if name in ends]  # fmt: skip
    known = [
        ("prediction_id", pa.string()),
        ("time", pa.timestamp("ms", "UTC")),
        ("model_version", pa.string()),
        ("role", pa.string()),
        ("milliseconds", pa.float64()),
    ]
    return pa.schema([*known, (problem.ID, pa.string()), *record, *said])


def _logged(fields: set[str], since: str, until: str) -> set[str]:
    """Those of the fields that some answer has."""
    found: set[str] = set()
    for row in logged.rows(since=since, until=until):
        found |= fields & row["answer"].keys()
        if found == fields:
            break
    return found


def batches(wanted: pa.Schema, since: str = "", until: str = "") -> Iterator[pa.RecordBatch]:
    """The table in batches with the columns `wanted`, in constant memory."""
    held = []
    for row in logged.rows(since=since, until=until):
        held.append({**row, **row["record"], **row["answer"], problem.ID: known_as(row["record"].get(problem.ID))})
        if len(held) == ROWS:
            yield _batch(held, wanted)
            held = []
    yield _batch(held, wanted)


def _batch(rows: list[dict[str, Any]], wanted: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [pa.array([_typed(row.get(field.name), field.type) for row in rows], field.type) for field in wanted],
        schema=wanted,
    )


def _typed(value: Any, kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind) and isinstance(value, str):
        return datetime.fromisoformat(value)
    if pa.types.is_timestamp(kind) and type(value) is date:
        return datetime.combine(value, datetime.min.time())
    return str(value) if value is not None and pa.types.is_string(kind) else value


def trace(name: str) -> Iterator[str]:
    """A prediction's version, run, commit, data and lock, a line each.

    Raises:
        UserError: it is not in the log.
    """
    name = known_as(name) or name
    found = [row for row in logged.rows() if name in (row[PREDICTION], known_as(row["record"].get(problem.ID)))]
    if not found:
        raise UserError(
            f"there is no prediction in the log whose {PREDICTION}, or whose record's {problem.ID}, is {name}"
        )
    known: list[dict[str, Any]] = list(found)
    for version in dict.fromkeys(row["model_version"] for row in found):
        known.append(registry.trace(version) if version.isdigit() else {"version": f"{version} was never registered"})
    for each in known:
        for field, value in each.items():
            yield f"{field:18} {json.dumps(value, default=str) if isinstance(value, dict) else value}"


def main() -> None:
    """`make predictions`: write the predictions from SINCE to UNTIL as a table to OUTPUT."""
    parser = Parser(prog="make predictions", description=main.__doc__)
    parser.add_argument("--output", default="", help="a Parquet file or URL (OUTPUT=log.parquet)")
    parser.add_argument("--since", default="", help="first day or time (SINCE=2024-01-31)")
    parser.add_argument("--until", default="", help="last day or time, itself included (UNTIL=2024-02-29)")
    parser.add_argument("--trace", default="", help="show what a prediction rests on (make trace PREDICTION=id)")
    given = parser.parse_args()
    if given.trace:
        print("\n".join(trace(given.trace)))
        return
    since, until = (prediction_log.beginning(getattr(given, name), name.upper()) for name in ("since", "until"))
    if not given.output.endswith(".parquet"):
        raise UserError(
            f"OUTPUT={given.output} is no .parquet file: make predictions OUTPUT=log.parquet, or a URL such as s3://bucket/log.parquet"
        )
    try:
        system, path = (
            pa.fs.FileSystem.from_uri(given.output)
            if "://" in given.output
            else (pa.fs.LocalFileSystem(), given.output)
        )
        # A file appears completely or not at all; a store shows an object once it is closed.
        partial, count, wanted = path if "://" in given.output else f"{path}.partial", 0, kinds(since, until)
        with pa.parquet.ParquetWriter(partial, wanted, filesystem=system) as writer:
            for batch in batches(wanted, since, until):
                writer.write_batch(batch)
                count += batch.num_rows
        if partial != path:
            Path(partial).replace(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{given.output} cannot be written: {first_line(error)}") from None
    print(f"{count:,} predictions written to {given.output}")
