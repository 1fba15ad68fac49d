"""Columns of records as numbers that a model can take; the same in training and in serving."""

from __future__ import annotations

import typing
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel


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
