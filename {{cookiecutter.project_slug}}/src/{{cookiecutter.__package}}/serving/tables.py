"""Rows of Parquet and CSV files: read a batch at a time, written completely or not at all."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from ..data import storage
from ..data.read import HEAD_BYTES, STANDARD, Dialect, dialect
from ..data.storage import Place, together

MOST_OF_A_LINE = 1_000
"""The number of characters shown of a line that cannot be parsed."""

Batches = Iterator[tuple[pa.RecordBatch, pa.Array]]
"""Batches of n rows, and the number of each row in its file, n integers from 1."""


class BadLine(NamedTuple):
    """A line of a CSV file that cannot be parsed: its number if known, the number of its columns and of the expected ones."""

    number: int | None
    columns: int
    expected: int
    text: str


@dataclass
class Reading:
    """A file that is read a batch at a time.

    Attributes:
        schema: the schema of every batch.
        text: the columns with text that has not been parsed: those of a CSV file, and those from the path.
        batches: the rows.
        written: the dialect of numbers and dates in a CSV file.
        bad_lines: lines of a CSV file that do not have the header's number of columns, as they are met; the caller
            removes those it has handled.
    """

    schema: pa.Schema
    text: frozenset[str]
    batches: Batches
    written: Dialect = STANDARD
    bad_lines: list[BadLine] = field(default_factory=list)


@contextlib.contextmanager
def reading(where: Place, rows: int, named: dict[str, str]) -> Iterator[Reading]:
    """Open a Parquet or CSV file; batches have up to `rows` rows, and an extra column for each value that its path has `named`.

    Raises:
        UserError: the file is missing or damaged.
    """
    with storage.errors(where), contextlib.ExitStack() as opened:
        read = _parquet(where, rows, opened) if where.form == "parquet" else _csv(where, opened)
        for name, value in named.items():
            if name not in read.schema.names:
                read = _with_column(read, name, value)
        yield read


def _with_column(read: Reading, name: str, value: str) -> Reading:
    batches = (
        (batch.append_column(name, pa.repeat(pa.scalar(value), batch.num_rows)), numbers)
        for batch, numbers in read.batches
    )
    schema = read.schema.append(pa.field(name, pa.string()))
    return Reading(schema, read.text | {name}, batches, read.written, read.bad_lines)


def _parquet(where: Place, rows: int, opened: contextlib.ExitStack) -> Reading:
    file = opened.enter_context(where.system.open_input_file(where.path))
    parquet = pa.parquet.ParquetFile(file, pre_buffer=True)

    def batches() -> Batches:
        done = (
            sum(parquet.metadata.row_group(group).num_rows for group in range(where.groups[0])) if where.groups else 0
        )
        # pyarrow keeps what it reads ahead until all of it is read, so it must not read ahead the whole file.
        for groups in together(parquet.metadata, rows, where.groups):
            for batch in parquet.iter_batches(rows, row_groups=groups):
                yield batch, pa.array(np.arange(done + 1, done + batch.num_rows + 1))
                done += batch.num_rows

    return Reading(parquet.schema_arrow, frozenset(), batches())


def _csv(where: Place, opened: contextlib.ExitStack) -> Reading:
    bad: list[BadLine] = []
    ahead: list[int] = []

    def skip(line: pa.csv.InvalidRow) -> str:
        # pyarrow counts the header as the first line; row numbers begin after it.
        bad.append(BadLine(line.number - 1, line.actual_columns, line.expected_columns, line.text[:MOST_OF_A_LINE]))
        ahead.append(line.number - 1)
        return "skip"

    with where.system.open_input_stream(where.path) as file:
        found = dialect(file.read(HEAD_BYTES), where)
    # With threads, the number of a bad line would be unknown.
    how = pa.csv.ReadOptions(block_size=HEAD_BYTES, use_threads=False)
    file = opened.enter_context(where.system.open_input_stream(where.path))
    opened.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
    sys.unraisablehook = _unless_text
    stream = pa.csv.open_csv(file, how, **found.options(skip))

    def batches() -> Batches:
        done = 0
        for batch in stream:
            # Bad lines count too, as in a text editor.
            numbers = np.arange(done + 1, done + batch.num_rows + len(ahead) + 1)
            numbers = numbers[~np.isin(numbers, ahead)][: batch.num_rows]
            done = int(numbers[-1]) if len(numbers) else done
            ahead[:] = [number for number in ahead if number > done]
            yield batch, pa.array(numbers)

    return Reading(stream.schema, frozenset(stream.schema.names), batches(), found, bad)


def _unless_text(told: Any) -> None:
    """pyarrow reports a line that is not UTF-8 twice: by a traceback on the terminal, and by the error that it raises; hide the first."""
    if not isinstance(told.exc_value, UnicodeDecodeError):
        sys.__unraisablehook__(told)


class Writer:
    """Writes rows to a temporary file beside `target`; `publish` renames it atomically.

    Call `open` only where `abandon` is sure to follow: a signal between the two would leave a file behind.
    """

    def __init__(self, target: Place, schema: pa.Schema) -> None:
        self.target, self.schema, self._form = target, schema, target.form
        self.folder, _, name = target.path.rpartition("/")
        self._prefix = f".{name}."
        self._partial = f"{self.folder}/{self._prefix}{secrets.token_hex(4)}.partial"
        self._sink: Any = None
        self._writer: Any = None

    def open(self) -> None:
        """Create the file, and remove what an earlier job left."""
        with storage.errors(self.target):
            self.target.system.create_dir(self.folder)
            self._clean()
            packed = "gzip" if self.target.path.lower().endswith(".gz") else None
            self._sink = self.target.system.open_output_stream(self._partial, compression=packed)
            parquet = self._form == "parquet"
            self._writer = (pa.parquet.ParquetWriter if parquet else pa.csv.CSVWriter)(self._sink, self.schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        with storage.errors(self.target):
            self._writer.write_batch(batch)

    def publish(self, metadata: dict[str, str]) -> None:
        """Close the file and rename it to the target, replacing it; Parquet files contain the metadata."""
        with storage.errors(self.target):
            if self._form == "parquet":
                self._writer.add_key_value_metadata(metadata)
            self._writer.close()
            self._sink.close()
            self.target.system.move(self._partial, self.target.path)

    def abandon(self) -> None:
        """Leave nothing behind; an existing target is unchanged."""
        for each in filter(None, (self._writer, self._sink)):
            with contextlib.suppress(OSError, pa.ArrowException):
                each.close()
        with contextlib.suppress(OSError):
            self.target.system.delete_file(self._partial)

    def _clean(self) -> None:
        """Remove the temporary files of a job that was killed while it wrote this file."""
        around = self.target.system.get_file_info(pa.fs.FileSelector(self.folder, allow_not_found=True))
        for info in around:
            if info.base_name.startswith(self._prefix) and info.base_name.endswith(".partial"):
                self.target.system.delete_file(info.path)


def expected(where: Place) -> int:
    """The approximate number of rows of a file: exact for Parquet, estimated from the first lines for CSV."""
    with storage.errors(where), where.system.open_input_file(where.path) as file:
        if where.form == "parquet":
            return int(pa.parquet.ParquetFile(file).metadata.num_rows)
        head = file.read(HEAD_BYTES // 16)
        return round(head.count(b"\n") * file.size() / len(head)) if head and not where.path.endswith(".gz") else 0
