"""Records as columns: the one bridge between pydantic records, data files and the predictor."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import annotated_types
import numpy as np
from numpy.typing import NDArray
from pydantic import NaiveDatetime

from . import problem
from .problem import Columns, Record

DTYPES: dict[Any, str] = {
    int: "int64",
    float: "float64",
    bool: "bool",
    datetime: "datetime64[us]",
    NaiveDatetime: "datetime64[us]",
}
"""The type of a field -> the type of its column; anything else is held as objects."""


@dataclass(frozen=True)
class Field:
    """One field of a record as a column: its NumPy type, whether it may be missing, and its bounds."""

    name: str
    dtype: str
    required: bool
    least: float | None
    most: float | None


def _field(name: str) -> Field:
    info = Record.model_fields[name]
    union = typing.get_origin(info.annotation) in (types.UnionType, typing.Union)
    kinds = typing.get_args(info.annotation) if union else [info.annotation]
    kind: Any = next(kind for kind in kinds if kind is not types.NoneType)
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    bounds = info.metadata
    least = next((bound.ge for bound in bounds if isinstance(bound, annotated_types.Ge)), None)
    most = next((bound.le for bound in bounds if isinstance(bound, annotated_types.Le)), None)
    return Field(name, DTYPES.get(kind, "object"), info.is_required(), typing.cast(Any, least), typing.cast(Any, most))


FIELDS = tuple(_field(name) for name in Record.model_fields)


def columns(records: Sequence[Record]) -> dict[str, NDArray[Any]]:
    """Valid records as one array a field, each of shape (n,); a missing value is NaN, NaT or None."""
    return {field.name: np.array([getattr(record, field.name) for record in records], field.dtype) for field in FIELDS}


def violations(raw: Columns) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """For each rule of `Record` a sentence and the rows, shape (n,), that break it; the rules that `columns` relies on.

    `raw` has numbers as floats (NaN where missing), times as datetime64 and anything else as objects. In training data
    the time may not be missing either: the split needs it.
    """
    for field in FIELDS:
        values = raw[field.name]
        missing = _missing(values)
        if field.required or field.name == problem.TIME:
            yield f"{field.name} missing", missing
        if field.dtype == "int64":
            yield f"{field.name} not a whole number", ~missing & (values != np.floor(values))
        if field.least is not None:
            yield f"{field.name} under {field.least:g}", values < field.least
        if field.most is not None:
            yield f"{field.name} over {field.most:g}", values > field.most


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    test = {"M": np.isnat, "f": np.isnan}.get(values.dtype.kind)
    return np.asarray(test(values) if test else [value is None for value in values], bool)


def absent(field: Field, rows: int) -> NDArray[Any]:
    """The column of an optional field that nobody filled in, shape (rows,)."""
    empty = {"float64": np.nan, "datetime64[us]": np.datetime64("NaT")}
    return np.full(rows, empty.get(field.dtype), field.dtype)
