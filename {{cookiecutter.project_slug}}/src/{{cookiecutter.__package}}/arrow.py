"""Columns of data files as the columns that records are checked and scored in."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .cli import UserError

TYPES = {
    int: pa.float64(),
    float: pa.float64(),
    bool: pa.bool_(),
    np.datetime64: pa.timestamp("us"),
    str: pa.string(),
}
"""How a column is held while it is checked: numbers as floats, so that a missing one is NaN."""

WANTED = {
    int: "whole numbers",
    float: "numbers",
    bool: "true or false",
    np.datetime64: "local times without an offset",
    str: "text",
}
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


def column(values: pa.Array | pa.ChunkedArray, name: str, kind: type) -> NDArray[Any]:
    """The values as NumPy has them, shape (n,): floats, times of microseconds, or objects.

    Raises:
        UserError: the column's type cannot hold what is wanted.
    """
    try:
        if pa.types.is_timestamp(values.type) and values.type.tz:
            raise pa.ArrowInvalid("it has a time zone")
        if kind is str:
            return _texts(values)
        cast = values.cast(TYPES[kind], safe=kind is not np.datetime64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"column {name} should hold {WANTED[kind]} but is {values.type}: {error}") from None
    return np.asarray(cast.to_numpy() if isinstance(cast, pa.ChunkedArray) else cast.to_numpy(zero_copy_only=False))


def _texts(values: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Texts as objects, None where one is missing; rows with the same text share it."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    coded = whole.cast(pa.string()).dictionary_encode()
    known = np.array([*coded.dictionary.to_pylist(), None], object)
    places = coded.indices.fill_null(len(known) - 1) if coded.null_count else coded.indices
    return np.asarray(known[places.to_numpy(zero_copy_only=False)])


def parsed(text: pa.Array, kind: type) -> pa.Array:
    """A column of text as one of its type; what cannot be read as that becomes null."""
    try:
        return text.cast(TYPES[kind])
    except pa.ArrowInvalid:
        convert = {int: _number, float: _number, np.datetime64: _time, bool: _boolean}[kind]
        return pa.array([None if value is None else convert(value) for value in text.to_pylist()], TYPES[kind])


def _number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text) else None


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower())


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return time if time.tzinfo is None else None
