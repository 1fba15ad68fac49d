"""Building blocks for problem.py: types for the fields of a record, and everything derived from them."""

from __future__ import annotations

import functools
import json
import types
import typing
import zlib
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, NaiveDatetime, WithJsonSchema
from pydantic.fields import FieldInfo

Columns = Mapping[str, NDArray[Any]]
"""Names -> values, each of shape (n,)."""

DTYPES: dict[Any, str] = {
    int: "int64",
    float: "float64",
    bool: "bool",
    datetime: "datetime64[us]",
    NaiveDatetime: "datetime64[us]",
    date: "datetime64[us]",
}
"""The type of a field -> the type of its column; any other type is stored as objects."""

BUCKETS = 256
"""The number of buckets that text is hashed to when it has too many values to list."""


def whole(value: Any) -> Any:
    """Convert 74.0 to 74: JSON has one kind of number, and clients that store all numbers as floats mean an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
"""Marks an `int` that may be written as 74.0. It comes last, so that bounds before it are in the JSON schema too."""

LocalTime = Annotated[NaiveDatetime, WithJsonSchema({"type": "string", "format": "date-time-local"})]
"""A local date and time of day, without an offset."""


def plain(kind: Any, marks: list[Any]) -> tuple[Any, list[Any]]:
    """A field's type without `| None` and `Annotated`; the annotations are added to `marks`."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(kind) if option is not types.NoneType]
        return plain(options[0], marks) if len(options) == 1 else (kind, marks)
    if typing.get_origin(kind) is typing.Annotated:
        inner, *said = typing.get_args(kind)
        said = [mark for each in said for mark in (each.metadata if isinstance(each, FieldInfo) else [each])]
        return (kind, marks + said) if kind in DTYPES else plain(inner, marks + said)
    return kind, marks


def choices(record: type[BaseModel], field: str) -> tuple[Any, ...]:
    """The allowed values of a field of type `Literal[...]`, in order; empty for other types."""
    kind, _ = plain(record.model_fields[field].annotation, [])
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def codes(values: NDArray[Any], known: tuple[Any, ...]) -> NDArray[np.float32]:
    """The index of each value in `known`, shape (n,); -1 for a value that is missing or not in it."""
    place = {value: number for number, value in enumerate(known)}
    return np.array([place.get(value, -1) for value in values.tolist()], np.float32)


def hashed(values: NDArray[Any], buckets: int) -> NDArray[np.float32]:
    """The bucket of each text, shape (n,), the same on every machine; -1 for a missing value.

    For text with too many values to list (feature hashing, Weinberger et al. 2009): some texts share a bucket.
    """
    place = {value: zlib.crc32(str(value).encode()) % buckets for value in set(values.tolist()) - {None}}
    return np.array([place.get(value, -1) for value in values.tolist()], np.float32)


class Fields:
    """Everything derived from the fields of a record: its features, an example, the columns of a file.

    Each field becomes a feature: numbers and booleans as they are, a choice as its index, other text hashed. A time becomes
    hour, weekday (Monday is 0) and month, a date the last two. A missing value is NaN, or -1 for text and choices.
    The example takes the first of a field's `examples`; a field's `title` is the name of its column in a file.
    """

    def __init__(self, record: type[BaseModel]) -> None:
        self.raw: dict[str, type] = {}
        self.aliases: dict[str, str] = {}
        self.example: dict[str, Any] = {}
        self._makers: dict[str, tuple[str, Callable[[NDArray[Any]], NDArray[Any]]]] = {}
        for name, info in record.model_fields.items():
            kind, among = plain(info.annotation, [])[0], choices(record, name)
            held = np.datetime64 if "time" in DTYPES.get(kind, "") else type(among[0]) if among else kind
            self.raw[name] = held if held in (int, float, bool, np.datetime64) else str
            self.aliases |= {info.title: name} if info.title not in (None, name) else {}
            self.example |= {name: info.examples[0]} if info.examples else {}
            if held is np.datetime64:
                parts = {part: make for part, make in PARTS.items() if kind is not date or part != "hour"}
                self._makers |= {f"{name}_{part}": (name, make) for part, make in parts.items()}
            elif among:
                self._makers[name] = name, functools.partial(codes, known=among)
            else:
                text = self.raw[name] is str
                self._makers[name] = name, functools.partial(hashed, buckets=BUCKETS) if text else np.asarray
        self.names = tuple(self._makers)
        self.categories = tuple(name for name in self.names if self.raw.get(name) is str)

    def features(self, columns: Columns) -> NDArray[np.float32]:
        """The features of n records, shape (n, features)."""
        matrix = np.empty((len(next(iter(columns.values()))), len(self._makers)), np.float32)
        for place, (name, make) in enumerate(self._makers.values()):
            matrix[:, place] = make(columns[name])
        return matrix


def _hours(times: NDArray[Any]) -> NDArray[np.float64]:
    monday = np.datetime64("2024-01-01", "us")
    return np.where(np.isnat(times), np.nan, (times - monday).astype(np.int64) / 3.6e9)


PARTS: dict[str, Callable[[NDArray[Any]], NDArray[np.float64]]] = {
    "hour": lambda times: _hours(times) % 24,
    "weekday": lambda times: _hours(times) // 24 % 7,
    "month": lambda times: np.where(np.isnat(times), np.nan, times.astype("datetime64[M]").astype(np.int64) % 12 + 1),
}


def drawn(path: Path, raw: Mapping[str, type], rows: int, seed: int, drift: bool) -> dict[str, NDArray[Any]]:
    """Generated rows with the columns of `raw`; each column is drawn independently from its statistics in `path`, per group of the target.

    With `drift` the later groups are far more common, and a third of the rows get the target of another row.
    """
    seen = json.loads(path.read_text(encoding="utf-8"))
    rng = np.random.default_rng(seed)
    shares = np.array(seen["shares"]) * (np.arange(1, len(seen["shares"]) + 1) ** 2 if drift else 1)
    group = rng.choice(len(shares), rows, p=shares / shares.sum())
    other = np.where(rng.random(rows) < (1 / 3 if drift else 0), rng.permutation(group), group)
    groups = {name: other if name == seen["target"] else group for name in raw}
    return {name: _column(rng, kind, groups[name], **seen["columns"][name]) for name, kind in raw.items()}


def _column(
    rng: np.random.Generator, kind: type, group: NDArray[np.int64], step: float, missing: float, seen: list[list[Any]]
) -> NDArray[Any]:
    """Values like those `seen` in the group of each of n rows: between quantiles, or from the list of texts, shape (n,)."""
    number = kind in (int, float, np.datetime64)
    values = np.empty(len(group), np.float64 if number else object)
    for place, known in enumerate(seen):
        rows = np.flatnonzero(group == place)
        between = np.interp(rng.random(len(rows)), np.linspace(0, 1, len(known)), known) if number else None
        values[rows] = between if number else np.array(known, object)[rng.integers(0, len(known), len(rows))]
    values = (values / step).round() * step if step else values
    gaps = rng.random(len(group)) < missing
    if kind is np.datetime64:
        return np.where(gaps, np.datetime64("NaT", "us"), values.astype("datetime64[us]"))
    values[gaps] = np.nan if number else None
    return values
