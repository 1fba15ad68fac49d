"""Read training data, from a file or the generated sample, as columns; the only place that parses CSV text."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from .. import problem
from ..base import params
from ..base.errors import UserError, first_line
from . import schema

SAMPLE = "generated sample"
TYPES = {
    int: (pa.float64(), "whole numbers"),
    float: (pa.float64(), "numbers"),
    bool: (pa.bool_(), "true or false"),
    np.datetime64: (pa.timestamp("us"), "local times without an offset"),
    str: (pa.string(), "text"),
}
"""How a column is stored while it is checked, and what it should contain: numbers are floats, so that a missing one is NaN."""

Wanted = Callable[[Sequence[str]], list[str]]
"""Selects columns by name."""

FORMATS = (".parquet", ".csv", ".csv.gz")
HEAD_BYTES = 1 << 20
SEPARATORS = ",;\t|"
SLASHES = r"(\d{1,2})/(\d{1,2})/\d{4}\b"
DOTS = r"\d{1,2}\.\d{1,2}\.\d{4}\b"
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
TRUTH = {"TRUE": True, "1": True, "FALSE": False, "0": False}
NOTHING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""What a CSV file has for a missing number, time or boolean; a text is missing if it is blank."""


class Stored(Protocol):
    """A file in a store such as S3."""

    def open(self) -> pa.NativeFile:
        """Its bytes."""


File = Path | Stored


class Dialect(NamedTuple):
    """How a CSV file is written: column names, separator, decimal mark, and whether dates with slashes begin with the day."""

    names: Sequence[str] = ()
    separator: str = ","
    decimal: str = "."
    dates: str = ""

    def options(self, on_bad_line: Callable[[pa.csv.InvalidRow], str] | None = None) -> dict[str, Any]:
        """The options for pyarrow's readers: every column is text, so that no type is guessed wrongly."""
        how = pa.csv.ParseOptions(delimiter=self.separator, newlines_in_values=True, invalid_row_handler=on_bad_line)
        text = {name: pa.string() for name in self.names}
        kept = pa.csv.ConvertOptions(column_types=text, strings_can_be_null=True, null_values=[""])
        return {"parse_options": how, "convert_options": kept}


STANDARD = Dialect()


def form(name: str) -> str:
    """`parquet` or `csv`, from a file's name; empty for anything else."""
    return next((ending.split(".")[1] for ending in FORMATS if name.lower().endswith(ending)), "")


def dialect(head: bytes, where: object) -> Dialect:
    """The dialect of the CSV file that begins with `head`.

    Raises:
        UserError: it is empty or not CSV, or two of its columns have the same name.
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
    cells = [cell.strip() for row in rows for cell in row]
    numbers = [cell for cell in cells if re.fullmatch(r"-?\d+[.,]\d+", cell)]
    comma = separator != "," and numbers and all("," in cell for cell in numbers)
    starts = [(int(found[1]), int(found[2])) for cell in cells if (found := re.match(SLASHES, cell))]
    begins = {"%d/%m": any(day > 12 for day, _ in starts), "%m/%d": any(day > 12 for _, day in starts)}
    # If no number is over 12, or numbers over 12 are in both places, the order cannot be told.
    dates = [order for order, sure in begins.items() if sure]
    return Dialect(names, separator, "," if comma else ".", dates[0] if len(dates) == 1 else "")


def rows(settings: params.Data, source: str = "") -> tuple[str, dict[str, NDArray[Any]]]:
    """The name and the columns of the file `source`, else of `settings.source`, else of the generated sample.

    Raises:
        UserError: the file is missing, damaged, or lacks a column.
    """
    source = source or settings.source
    return (source, read(Path(source))) if source else (SAMPLE, problem.sample(settings.sample_rows, settings.seed))


def read(
    path: File | str, groups: Sequence[int] = (), written: Dialect | None = None, among: Sequence[File] = ()
) -> dict[str, NDArray[Any]]:
    """The columns of `problem.RAW` from a Parquet or CSV file or a folder of them, each of shape (n,), under their own names.

    `groups` are the row groups to read of a Parquet file; `written` is how a CSV file is written, if that is known.
    If files are given as `among`, they are read, and `path` is what messages call them.

    Raises:
        UserError: the file is missing or damaged, a column is missing or has the wrong type, or a value is unreadable.
    """
    found: list[dict[str, type]] = []

    def wanted(names: Sequence[str]) -> list[str]:
        kinds = dict(problem.RAW)
        if schema.TRUE in names:
            kinds = {field.name: field.kind for field in schema.FIELDS} | {schema.TRUE: float}
        given = {problem.ALIASES.get(name, name): name for name in names}
        if missing := [name for name in kinds if name not in given]:
            raise UserError(f"{path} has no column {missing[0]}; it has {', '.join(names[:12])}")
        found.append(kinds)
        return [given[name] for name in kinds]

    alone = Path(path) if isinstance(path, str) else path
    chosen = among or (files(alone) if isinstance(alone, Path) else [alone])
    loaded = [table(each, wanted, groups) for each in chosen]
    if any(kinds != found[0] for kinds in found):
        raise UserError(
            f"the files of {path} do not fit together: some have records with {schema.TRUE}, others have not"
        )
    written = written or common(path, [own for _, own in loaded])
    parts = [
        {
            name: column(values, name, kind, written)
            for (name, kind), values in zip(found[0].items(), each.columns, strict=True)
        }
        for each, _ in loaded
    ]
    return {
        name: np.concatenate([each[name] for each in parts]) if parts[1:] else values
        for name, values in parts[0].items()
    }


def table(path: File, wanted: Wanted = list, groups: Sequence[int] = ()) -> tuple[pa.Table, Dialect]:
    """The columns of a file that `wanted` selects by name, as text for a CSV file; and the file's dialect.

    The files of a folder are read in the order of their names.

    Raises:
        UserError: a file is missing or damaged, or the files of a folder differ in their columns or in their dialect.
    """
    if isinstance(path, Path) and path.is_dir():
        return tables(path, files(path), wanted)
    with readable(path) as kind:
        if kind == "parquet":
            file = pa.parquet.ParquetFile(opened(path))
            return file.read_row_groups(list(groups or range(file.num_row_groups)), wanted(file.schema_arrow.names)), STANDARD  # fmt: skip
        found = dialect_of(path)
        with unpacked(path) as stream:
            return pa.csv.read_csv(stream, **found.options()).select(wanted(found.names)), found


def opened(path: File) -> pa.NativeFile:
    """The bytes of a file."""
    return pa.OSFile(str(path)) if isinstance(path, Path) else path.open()


def unpacked(path: File) -> pa.NativeFile:
    """The bytes of a file, or of what is packed in it."""
    return pa.input_stream(opened(path), compression="gzip" if str(path).lower().endswith(".gz") else None)


@contextlib.contextmanager
def readable(path: File) -> Iterator[str]:
    """The format of a file; within it, errors of reading are told in one line.

    Raises:
        UserError: the file is missing or damaged, or has another format.
    """
    missing = UserError(f"{path} does not exist: check DATA=, or leave it out to train on the generated sample")
    if not (kind := form(str(path))):
        raise UserError(f"{path}: only {', '.join(FORMATS)} files can be read") if Path(str(path)).exists() else missing
    try:
        yield kind
    except FileNotFoundError:
        raise missing from None
    except (
        pa.ArrowException,
        OSError,
        KeyError,
        UnicodeError,
    ) as error:  # the last two where Parquet's own parts disagree
        raise UserError(f"{path} is not a readable {kind} file: {first_line(error)}") from None


def dialect_of(path: File) -> Dialect:
    """The dialect of a CSV file, from its beginning."""
    with unpacked(path) as stream:
        return dialect(stream.read(HEAD_BYTES), path)


def files(path: Path) -> list[Path]:
    """The data files of a folder in the order of their names, or the file itself.

    Raises:
        UserError: the folder has none.
    """
    found = sorted(each for each in path.iterdir() if form(each.name)) if path.is_dir() else [path]
    if not found:
        raise UserError(f"{path} has no {', '.join(FORMATS)} files")
    return found


def tables(name: object, files: Sequence[File], wanted: Wanted = list) -> tuple[pa.Table, Dialect]:
    """The tables of several files as one, and how they are written.

    Raises:
        UserError: as `table`.
    """
    parts = [table(each, wanted) for each in files]
    written = common(name, [each for _, each in parts])
    try:
        return pa.concat_tables([part for part, _ in parts], promote_options="permissive"), written
    except pa.ArrowException as error:
        raise UserError(f"the files of {name} do not fit together: {first_line(error)}") from None


def common(name: object, dialects: Sequence[Dialect]) -> Dialect:
    """How numbers and dates are written in all files of a folder.

    Raises:
        UserError: dates are written in two ways.
    """
    marks, dates = {each.decimal for each in dialects}, {each.dates for each in dialects}
    if len(dates - {""}) > 1:
        said = "dates begin with the day in some of them, with the month in others"
        raise UserError(f"the files of {name} do not fit together: {said}")
    return STANDARD._replace(decimal=min(marks), dates=max(dates))


def column(values: pa.Array | pa.ChunkedArray, name: str, kind: type, written: Dialect = STANDARD) -> NDArray[Any]:
    """The values as a NumPy array, shape (n,): floats, times in microseconds, or objects.

    Raises:
        UserError: the column's type does not fit, or a text cannot be parsed.
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
            whole = parsed(text, kind, written)
            strange = np.flatnonzero(np.asarray(text.is_valid()) & np.asarray(whole.is_null()))
            if len(strange):
                more = f" (and {len(strange) - 1:,} more)" if len(strange) > 1 else ""
                raise pa.ArrowInvalid(f"row {strange[0] + 1:,} has {text[strange[0]].as_py()[:40]!r}{more}")
        cast = whole.cast(wanted, safe=kind is not np.datetime64)
    except (ValueError, NotImplementedError) as error:  # Arrow's errors are both kinds, a text's encoding is the first
        raise UserError(f"column {name} should hold {words} but is {values.type}: {first_line(error)}") from None
    return np.asarray(cast.to_numpy(zero_copy_only=False))


def present(text: pa.Array) -> pa.Array:
    """The non-blank texts of a column of numbers, times or booleans; markers for a missing value become null."""
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(trimmed, pa.array(NOTHING)), pa.scalar(None, pa.string()), trimmed)


def parsed(text: pa.Array, kind: type, written: Dialect) -> pa.Array:
    """A column of text converted to its type; what cannot be parsed becomes null."""
    wanted = TYPES[kind][0]
    if pa.types.is_floating(wanted) and written.decimal != ".":
        text = pc.replace_substring(text, written.decimal, ".")
    try:
        return text.cast(wanted)
    except pa.ArrowInvalid:
        if pa.types.is_floating(wanted):
            readable = pc.match_substring_regex(text, NUMBER)
            return pc.if_else(readable, text, pa.scalar(None, pa.string())).cast(wanted)
        dated = functools.partial(_time, dates=written.dates)
        convert: Callable[[str], Any] = dated if kind is np.datetime64 else TRUTH.get
        return pa.array([None if value is None else convert(value.upper()) for value in text.to_pylist()], wanted)


def _time(text: str, dates: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        day, _, hour = text.replace(".", "/", 2).partition(" ") if re.match(DOTS, text) else text.partition(" ")
        order = "%d/%m" if re.match(DOTS, text) else dates
        for clock in ("%H:%M:%S", "%H:%M", "%I:%M %p", "%I:%M:%S %p") if hour else ("",):
            with contextlib.suppress(ValueError):
                return datetime.strptime(f"{day} {hour}".strip(), f"{order}/%Y {clock}".strip()) if order else None
        return None
    return None if time.tzinfo or text.isdigit() else time


def _texts(values: pa.Array) -> NDArray[Any]:
    """Texts as objects, None if missing or blank; rows with the same text share one object."""
    coded = values.cast(pa.string()).dictionary_encode()
    known = np.array([*(text if text.strip() else None for text in coded.dictionary.to_pylist()), None], object)
    places = coded.indices.fill_null(len(known) - 1) if coded.null_count else coded.indices
    return np.asarray(known[places.to_numpy(zero_copy_only=False)])
