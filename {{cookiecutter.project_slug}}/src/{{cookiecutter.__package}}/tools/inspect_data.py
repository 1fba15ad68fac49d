"""What is in a file of data: its columns, their types and choices, and what can be learned from one of them."""

from __future__ import annotations

import keyword
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ..base.errors import UserError
from ..data import read

FEW = 30
"""Up to so many values a text column has choices, and a whole-number target has classes."""


@dataclass(frozen=True)
class Column:
    """A column of the file, and what was seen in it."""

    given: str
    name: str
    kind: str
    values: list[Any]
    missing: bool

    @property
    def choices(self) -> list[str]:
        """Its values, where it is text that has few."""
        found = sorted({value for value in self.values if value is not None})
        return found if self.kind == "str" and len(found) <= FEW else []


def look(path: Path) -> list[Column]:
    """The columns of a CSV or Parquet file.

    Raises:
        UserError: the file is missing, damaged or empty.
    """
    if not read.form(path.name) or not path.exists():
        raise UserError(
            f"FROM={path}: give a .csv or .parquet file that exists (make problem FROM=data.csv TARGET=column)"
        )
    table, decimal = read.table(path)
    if not table.num_rows:
        raise UserError(f"{path} has no rows")
    return [_column(name, table[name].combine_chunks(), decimal) for name in table.column_names]


def _column(given: str, values: pa.Array, decimal: str) -> Column:
    name = re.sub(r"\W+", "_", given).strip("_").lower() or "column"
    name = f"{name}_" if keyword.iskeyword(name) or name[0].isdigit() else name
    if pa.types.is_dictionary(values.type):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _typed(values.cast(pa.string()), decimal)
    if pa.types.is_string(values.type):
        return Column(given, name, "str", values.to_pylist(), values.null_count > 0)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return Column(given, name, "time", values.cast(pa.timestamp("us")).to_pylist(), values.null_count > 0)
    if pa.types.is_boolean(values.type):
        return Column(given, name, "bool", values.to_pylist(), values.null_count > 0)
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)):
        raise UserError(f"column {given} holds {values.type}, which no record can: leave it out of the file")
    numbers = [None if value is None or math.isnan(value) else float(value) for value in values.to_pylist()]
    whole = all(value is None or value.is_integer() for value in numbers)
    return Column(given, name, "int" if whole else "float", numbers, None in numbers)


def _typed(values: pa.Array, decimal: str) -> pa.Array:
    """A column of text as what all of its values can be read as; text where they begin with a nought, as codes do."""
    text = read.present(values)
    if not pa.compute.any(pa.compute.match_substring_regex(text, r"^0\d")).as_py():
        for kind in (float, np.datetime64, bool):
            found = read.parsed(text, kind, decimal)
            if found.null_count == text.null_count:
                return found
    blank = pa.compute.equal(pa.compute.utf8_trim_whitespace(values), "")
    return pa.compute.if_else(blank, pa.scalar(None, pa.string()), values)


def task(target: Column) -> tuple[str, list[Any]]:
    """What a target asks for, and its classes: two are `binary`, a few `multiclass`, other numbers `regression`.

    Raises:
        UserError: it never changes, or is text with too many values.
    """
    found = sorted({value for value in target.values if value is not None})
    if len(found) < 2:
        raise UserError(f"TARGET={target.given} has {len(found)} values: there is nothing to learn")
    if target.kind in ("str", "bool") or (target.kind == "int" and len(found) <= FEW // 3):
        if len(found) > FEW:
            raise UserError(f"TARGET={target.given} is text with {len(found):,} values: at most {FEW} can be classes")
        return ("binary" if len(found) == 2 else "multiclass"), found
    if target.kind == "time":
        raise UserError(f"TARGET={target.given} is a time: make a number of it first, such as the minutes between two")
    return "regression", []
