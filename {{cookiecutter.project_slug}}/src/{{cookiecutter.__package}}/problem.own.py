"""What this project predicts, and from what: a value, from a size, a kind and a time. Replace it by your own problem.

`make problem FROM=data.csv TARGET=column` generates this file from your data. By hand: change the fields of `Record`, the
column of the target, and the generated rows; the rest is derived from the fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .base.fields import Columns, Fields, LocalTime

TITLE = "What will the value be?"
TASK = "regression"
TARGET = "value"
UNIT = ""
TIME = "at"
ID = "id"
METRIC = "rmse"


class Record(BaseModel):
    """What is known when a prediction is requested: one field per line. Other fields are ignored."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    size: Annotated[float, Field(ge=0, le=1_000, examples=[12.5])]
    kind: Annotated[Literal["large", "medium", "small"], Field(examples=["medium"])]
    at: Annotated[LocalTime, Field(examples=["2024-01-10T08:30:00"])]


class Answer(BaseModel):
    """The model's answer for one record."""

    value: float


FIELDS = Fields(Record)
EXAMPLE, FEATURES, CATEGORIES = FIELDS.example, FIELDS.names, FIELDS.categories
SEGMENTS = FEATURES[:2]


def features(columns: Columns) -> NDArray[np.float32]:
    """The model's input, shape (n, features); see `Fields` for what each field becomes."""
    return FIELDS.features(columns)


def answer(scores: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """The model's output, shape (n,), as the fields of `Answer`."""
    return {"value": scores.astype(np.float64).round(4)}


# --- from a file to training data ------------------------------------------------------------------------------------

SOURCE = ""
RAW: dict[str, type] = {**FIELDS.raw, "value": float}
ALIASES = FIELDS.aliases
TARGET_RULES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]] = {}


def prepare(raw: Columns) -> Columns:
    """The columns of a file as `Record` spells them."""
    return raw


def target(raw: Columns) -> NDArray[np.float64]:
    """The truth, shape (n,); NaN if it is not known."""
    return np.asarray(raw["value"], np.float64)


# --- sample data ------------------------------------------------------------------------------------------------------


def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:
    """Generated rows with the columns of `RAW`; the same seed gives the same rows. With `drift`, size has 50 % more effect."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["large", "medium", "small"], rows).astype(object)
    size = rng.gamma(3, 6.0, rows).round(2)
    minutes = np.sort(rng.integers(0, 60 * 24 * 60, rows))
    extra = np.select([kind == "large", kind == "medium"], [12.0, 5.0], 0.0)
    value = 4 + (1.5 if drift else 1.0) * size + extra + 3 * np.sin(minutes / 1440 * 2 * np.pi) + rng.normal(0, 2, rows)
    at = np.datetime64("2024-01-01", "us") + minutes.astype("timedelta64[m]")
    return {"size": size, "kind": kind, "at": at, "value": value.round(4)}
