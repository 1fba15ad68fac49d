"""Read what a model learns from, a file or the generated sample, as columns; how CSV text is read, everywhere."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from .. import problem
from ..base import params
from ..base.errors import UserError, first_line

SAMPLE = "generated sample"
TYPES = {
    int: (pa.float64(), "whole numbers"),
    float: (pa.float64(), "numbers"),
    bool: (pa.bool_(), "true or false"),
    np.datetime64: (pa.timestamp("us"), "local times without an offset"),
    str: (pa.string(), "text"),
}
"""How a column is held while it is checked, and what it should hold: numbers are floats, so that a missing one is NaN."""

FORMATS = (".parquet", ".csv", ".csv.gz")
HEAD_BYTES = 1 << 20
SEPARATORS = ",;\t|"
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
TRUTH = {"TRUE": True, "1": True, "FALSE": False, "0": False}
NOTHING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""What a CSV file has where a number, a time or a truth value is missing; a text is missing where it is blank."""


class Dialect(NamedTuple):
    """How a CSV file is written: the names of its columns, what separates them, and the decimal mark."""

    names: list[str]
    separator: str
    decimal: str

    def options(self, on_bad_line: Callable[[pa.csv.InvalidRow], str] | None = None) -> dict[str, Any]:
        """What pyarrow's readers want to know: every column is text, so that no value is taken for what it is not."""
        how = pa.csv.ParseOptions(delimiter=self.separator, newlines_in_values=True, invalid_row_handler=on_bad_line)
        text = {name: pa.string() for name in self.names}
        kept = pa.csv.ConvertOptions(column_types=text, strings_can_be_null=True, null_values=[""])
        return {"parse_options": how, "convert_options": kept}


def form(name: str) -> str:
    """`parquet` or `csv`, as a file's name says; empty for anything else."""
    return next((ending.split(".")[1] for ending in FORMATS if name.lower().endswith(ending)), "")


def dialect(head: bytes, where: object) -> Dialect:
    """How the CSV file that begins with `head` is written.

    Raises:
        UserError: it is empty or no CSV file, or two of its columns have the same name.
    """
    text = head.decode("utf-8-sig", errors="ignore")
    if not text.strip():
        raise UserError(f"{where} is empty: a CSV file begins with the names of its columns")
    try:
        separator = max(SEPARATORS, key=lambda each: len(next(csv.reader(io.StringIO(text), delimiter=each))))
        names, *rows = itertools.islice(csv.reader(io.StringIO(text), delimiter=separator), 1_000)
    except csv.Error as error:
        raise UserError(f"{where} is not a readable csv file ({error}): is a quotation mark left open?") from None
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{where} has two columns named {twice[0]!r}")
    numbers = [cell for row in rows for cell in row if re.fullmatch(r"-?\d+[.,]\d+", cell.strip())]
    comma = separator != "," and numbers and all("," in cell for cell in numbers)
    return Dialect(names, separator, "," if comma else ".")


def rows(settings: params.Data, source: str = "") -> tuple[str, dict[str, NDArray[Any]]]:
    """The name and the columns of the file `source`, else of `settings.source`, else of the generated sample.

    Raises:
        UserError: the file is missing, damaged, or lacks a column.
    """
    source = source or settings.source
    return (source, read(Path(source))) if source else (SAMPLE, problem.sample(settings.sample_rows, settings.seed))


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of `problem.RAW` from a Parquet or CSV file, each of shape (n,), under their own names.

    Raises:
        UserError: the file is missing or damaged, a column is missing or has the wrong type, or a value is unreadable.
    """

    def wanted(names: Sequence[str]) -> list[str]:
        given = {problem.ALIASES.get(name, name): name for name in names}
        missing = [name for name in problem.RAW if name not in given]
        if missing:
            raise UserError(f"{path} has no column {missing[0]}; it has {', '.join(names[:12])}")
        return [given[name] for name in problem.RAW]

    found, decimal = table(path, wanted)
    return {
        name: column(values, name, kind, decimal)
        for (name, kind), values in zip(problem.RAW.items(), found.columns, strict=True)
    }


def table(path: Path, wanted: Callable[[Sequence[str]], list[str]] = list) -> tuple[pa.Table, str]:
    """Those of a file's columns that are `wanted` by their names, all of a CSV file as text; and its decimal mark.

    Raises:
        UserError: the file is missing or damaged.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: check DATA=, or leave it out to train on the generated sample")
    kind = form(path.name)
    if not kind:
        raise UserError(f"{path}: only {', '.join(FORMATS)} files can be read")
    try:
        if kind == "parquet":
            file = pa.parquet.ParquetFile(path)
            return file.read(columns=wanted(file.schema_arrow.names)), "."
        with pa.input_stream(str(path), compression="detect") as stream:
            found = dialect(stream.read(HEAD_BYTES), path)
        with pa.input_stream(str(path), compression="detect") as stream:
            return pa.csv.read_csv(stream, **found.options()).select(wanted(found.names)), found.decimal
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable {kind} file: {first_line(error)}") from None


def column(values: pa.Array | pa.ChunkedArray, name: str, kind: type, decimal: str = ".") -> NDArray[Any]:
    """The values as NumPy has them, shape (n,): floats, times of microseconds, or objects.

    Raises:
        UserError: the column's type cannot hold what is wanted, or a text cannot be read as that.
    """
    wanted, words = TYPES[kind]
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    try:
        if pa.types.is_timestamp(whole.type) and whole.type.tz:
            raise pa.ArrowInvalid("it has a time zone")
        if pa.types.is_timestamp(wanted) and pa.types.is_integer(whole.type):
            raise pa.ArrowInvalid("which moment a number means, it does not say")
        if kind is str:
            return _texts(whole)
        if pa.types.is_string(whole.type):
            text = present(whole)
            whole = parsed(text, kind, decimal)
            strange = np.flatnonzero(np.asarray(text.is_valid()) & np.asarray(whole.is_null()))
            if len(strange):
                more = f" (and {len(strange) - 1:,} more)" if len(strange) > 1 else ""
                raise pa.ArrowInvalid(f"row {strange[0] + 1:,} has {text[strange[0]].as_py()[:40]!r}{more}")
        cast = whole.cast(wanted, safe=kind is not np.datetime64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"column {name} should hold {words} but is {values.type}: {first_line(error)}") from None
    return np.asarray(cast.to_numpy(zero_copy_only=False))


def present(text: pa.Array) -> pa.Array:
    """What a column of text says of numbers, times or truth values, without blanks and without what stands for nothing."""
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(trimmed, pa.array(NOTHING)), pa.scalar(None, pa.string()), trimmed)


def parsed(text: pa.Array, kind: type, decimal: str = ".") -> pa.Array:
    """A column of text as one of its type; what cannot be read as that becomes null."""
    wanted = TYPES[kind][0]
    if pa.types.is_floating(wanted) and decimal != ".":
        text = pc.replace_substring(text, decimal, ".")
    try:
        return text.cast(wanted)
    except pa.ArrowInvalid:
        if pa.types.is_floating(wanted):
            readable = pc.match_substring_regex(text, NUMBER)
            return pc.if_else(readable, text, pa.scalar(None, pa.string())).cast(wanted)
        convert: Callable[[str], Any] = _time if kind is np.datetime64 else TRUTH.get
        return pa.array([None if value is None else convert(value.upper()) for value in text.to_pylist()], wanted)


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo or text.isdigit() else time


def _texts(values: pa.Array) -> NDArray[Any]:
    """Texts as objects, None where one is missing or blank; rows with the same text share it."""
    coded = values.cast(pa.string()).dictionary_encode()
    known = np.array([*(text if text.strip() else None for text in coded.dictionary.to_pylist()), None], object)
    places = coded.indices.fill_null(len(known) - 1) if coded.null_count else coded.indices
    return np.asarray(known[places.to_numpy(zero_copy_only=False)])
