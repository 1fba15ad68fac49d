"""The contents of data files: columns, their types and values, and which task a target column implies."""

from __future__ import annotations

import functools
import keyword
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel

from ...base.errors import UserError
from ...data import read

FEW = 30
"""With at most this many values, a text column has choices, and an integer target has classes."""

SOME = 50_000
"""The number of rows, spread evenly, that are inspected one by one."""


@dataclass(frozen=True)
class Column:
    """A column of the data: `kind` is int, float, bool, time, day or str; `values` are those of `SOME` rows, None if missing."""

    given: str
    name: str
    kind: str
    values: list[Any]
    rows: int
    missing: int
    distinct: int
    least: Any
    most: Any
    choices: list[str]

    @property
    def known(self) -> list[Any]:
        """The values that are not missing."""
        return [value for value in self.values if value is not None]

    @functools.cached_property
    def numbers(self) -> NDArray[np.float64]:
        """A number for each of `values`, NaN if missing: times in seconds, texts by their index in sorted order."""
        if self.kind == "str":
            place = {value: float(number) for number, value in enumerate(sorted(set(self.known)))}
            return np.array([place.get(value, np.nan) for value in self.values])
        if self.kind in ("time", "day"):
            times = np.array(self.values, "datetime64[us]")
            return np.where(np.isnat(times), np.nan, times.astype(np.int64) / 1e6)
        return np.array([np.nan if value is None else value for value in self.values], np.float64)


def look(path: Path) -> list[Column]:
    """The columns of a CSV or Parquet file, or of a folder of them.

    Raises:
        UserError: there is no such file, it is damaged or empty, or two columns would have the same name.
    """
    if not path.exists() or not (path.is_dir() or read.form(path.name)):
        raise UserError(
            f"FROM={path}: give a .csv or .parquet file that exists, or a folder of them (make problem FROM=data.csv TARGET=column)"
        )
    table, dialect = read.table(path)
    if not table.num_rows:
        raise UserError(f"{path} has no rows")
    found = [_column(name, table[name], dialect) for name in table.column_names]
    names = [column.name for column in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        both = " and ".join(repr(column.given) for column in found if column.name == twice)
        raise UserError(f"columns {both} would both be called {twice}: rename one in the file")
    return found


def spelled(given: str) -> str:
    """A column's name converted to a valid field name."""
    plain = unicodedata.normalize("NFKD", given).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain).strip("_").lower() or "column"
    taken = keyword.iskeyword(name) or hasattr(BaseModel, name)
    return f"{name}_" if taken else f"c_{name}" if name[0].isdigit() else name


def _column(given: str, chunks: pa.ChunkedArray, dialect: read.Dialect) -> Column:
    values = chunks.combine_chunks() if chunks.num_chunks != 1 else chunks.chunk(0)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind, values = _typed(given, values, dialect)
    place = np.linspace(0, len(values) - 1, min(len(values), SOME)).astype(np.int64)
    distinct = pc.count_distinct(values, mode="only_valid").as_py()
    ends = {"min": None, "max": None} if kind in ("str", "bool") else pc.min_max(values).as_py()
    choices = sorted(pc.unique(values.drop_null()).to_pylist()) if kind == "str" and distinct <= FEW else []
    return Column(
        given, spelled(given), kind, values.take(place).to_pylist(), len(values), values.null_count, distinct,
        ends["min"], ends["max"], choices,
    )  # fmt: skip


def _typed(given: str, values: pa.Array, dialect: read.Dialect) -> tuple[str, pa.Array]:
    """The kind of a column, and its values converted to it."""
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _parsed(values.cast(pa.string()), dialect)
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz:
        kind, values = pa.string(), values.cast(pa.string())
    if pa.types.is_string(kind):
        return "str", values
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        times = values.cast(pa.timestamp("us"), safe=False)
        days = pc.all(pc.equal(times, pc.floor_temporal(times, unit="day"))).as_py()
        return ("day" if days else "time"), times
    if pa.types.is_boolean(kind):
        return "bool", values
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UserError(f"column {given} holds {kind}, which no record can: leave it out of the file")
    numbers = values.cast(pa.float64(), safe=False)
    numbers = pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))
    whole = pc.all(pc.equal(numbers, pc.floor(numbers))).as_py()
    return ("int" if whole else "float"), numbers


def _parsed(values: pa.Array, dialect: read.Dialect) -> pa.Array:
    """A text column converted to the type that all of its values have; still text if they begin with a zero, as codes do."""
    text = read.present(values)
    if text.null_count < len(text) and not pc.any(pc.match_substring_regex(text, r"^0\d+$")).as_py():
        for kind in (float, np.datetime64, bool):
            found = read.parsed(text, kind, dialect)
            if found.null_count == text.null_count:
                return found
    blank = pc.equal(pc.utf8_trim_whitespace(values), "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), values)


def task(target: Column, wanted: str = "") -> tuple[str, list[Any]]:
    """The task that a target implies, and its classes: two are `binary`, a few `multiclass`, other numbers `regression`.

    Raises:
        UserError: it is constant, it is text with too many values, or it does not fit the task that is `wanted`.
    """
    found = sorted(set(target.known))
    if target.distinct < 2:
        raise UserError(f"TARGET={target.given} has {target.distinct} values: nothing can be learned from it")
    if target.kind in ("time", "day"):
        raise UserError(f"TARGET={target.given} is a time: make a number of it first, such as the minutes between two")
    number = target.kind in ("int", "float")
    if wanted == "regression" and not number:
        raise UserError(f"TASK=regression: TARGET={target.given} holds no numbers, such as {found[0]!r}")
    few = target.kind in ("str", "bool") or (target.kind == "int" and target.distinct <= FEW // 3)
    if wanted == "regression" or (not wanted and not few):
        return "regression", []
    if target.distinct > FEW:
        raise UserError(f"TARGET={target.given} has {target.distinct:,} values: at most {FEW} can be classes")
    kind = "binary" if target.distinct == 2 else "multiclass"
    if wanted not in ("", kind):
        raise UserError(f"TASK={wanted}: TARGET={target.given} has {target.distinct} values, which is {kind}")
    return kind, found
