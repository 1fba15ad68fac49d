"""What problem.py is written with: types for the fields of a record, and their columns as numbers for a model."""

from __future__ import annotations

import typing
import zlib
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, NaiveDatetime, WithJsonSchema


def whole(value: Any) -> Any:
    """74.0 as 74: JSON has one kind of number, and clients that hold numbers as floats mean the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
"""Marks an `int` that may be written with a point. It comes last: bounds before it are in the JSON schema too."""

LocalTime = Annotated[NaiveDatetime, WithJsonSchema({"type": "string", "format": "date-time-local"})]
"""A date and a time of day where the record is from, without an offset."""


def choices(record: type[BaseModel], field: str) -> tuple[Any, ...]:
    """The values that a field of type `Literal[...]` may have, in their order."""
    kind = record.model_fields[field].annotation
    options = [each for each in typing.get_args(kind) if typing.get_origin(each) is typing.Literal]
    return typing.get_args(options[0] if options else kind)


def codes(values: NDArray[Any], known: tuple[Any, ...]) -> NDArray[np.float32]:
    """The place of each value in `known`, shape (n,); -1 for what is missing or not in it."""
    place = {value: number for number, value in enumerate(known)}
    return np.array([place.get(value, -1) for value in values.tolist()], np.float32)


def hashed(values: NDArray[Any], buckets: int) -> NDArray[np.float32]:
    """One of so many numbers for each text, shape (n,), the same on every machine; -1 for what is missing.

    For text with too many values to list (feature hashing, Weinberger et al. 2009): some share a number.
    """
    place = {value: zlib.crc32(str(value).encode()) % buckets for value in set(values.tolist()) - {None}}
    return np.array([place.get(value, -1) for value in values.tolist()], np.float32)
