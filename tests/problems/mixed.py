"""A problem with a field of every kind: text, choices, truth values, dates, optional ones, and two hundred numbers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, create_model

from .base.fields import WHOLE, choices, codes, hashed

Columns = Mapping[str, NDArray[Any]]
TITLE = "Will the parcel be late?"
TASK, TARGET, UNIT, TIME, ID, METRIC = "binary", "late", "", "", "parcel", "brier"
NUMBERS = tuple(f"x{number:03d}" for number in range(200))


class _Strict(BaseModel):
    """What is known of a parcel."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    weight: float = Field(ge=0, le=100)
    pieces: Annotated[int, Field(ge=1, le=50), WHOLE]
    speed: Literal["slow", "fast"]
    insured: bool
    sent: date
    town: str
    floors: Annotated[int | None, Field(ge=0, le=80), WHOLE] = None
    fragile: bool | None = None
    value: float | None = Field(None, ge=0)
    colour: Literal["red", "blue"] | None = None


Record: type[BaseModel] = create_model(
    "Record", __base__=_Strict, **{name: (float, Field(ge=-1000)) for name in NUMBERS}
)


class Answer(BaseModel):
    """What the model says."""

    probability: float
    late: bool


EXAMPLE = {
    "weight": 2.5, "pieces": 1, "speed": "slow", "insured": True, "sent": "2024-03-01", "town": "Brno", "floors": 3,
    "fragile": False, "value": 12.0, "colour": "red", **dict.fromkeys(NUMBERS, 0.5),
}  # fmt: skip
CATEGORIES = ("speed", "colour", "town")
FEATURES = ("weight", "pieces", "speed", "insured", "weekday", "town", "floors", "fragile", "value", "colour", *NUMBERS)
SEGMENTS = ("weight",)
SOURCE, ALIASES, TARGET_RULES = "", {}, {}
RAW: dict[str, type] = {
    "weight": float, "pieces": int, "speed": str, "insured": bool, "sent": np.datetime64, "town": str, "floors": int,
    "fragile": bool, "value": float, "colour": str, **dict.fromkeys(NUMBERS, float), "was_late": bool,
}  # fmt: skip


def features(columns: Columns) -> NDArray[np.float32]:
    known = {
        "weekday": columns["sent"].astype("datetime64[D]").astype(np.int64) % 7,
        "town": hashed(columns["town"], 64),
        "speed": codes(columns["speed"], choices(Record, "speed")),
        "colour": codes(columns["colour"], choices(Record, "colour")),
    }
    return np.column_stack([np.asarray(known.get(name, columns.get(name)), np.float32) for name in FEATURES])


def answer(scores: NDArray[np.float32], *, threshold: float = 0.5) -> dict[str, NDArray[Any]]:
    return {"probability": scores.astype(np.float64).round(6), "late": scores >= threshold}


def prepare(raw: Columns) -> Columns:
    return raw


def target(raw: Columns) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else float(value) for value in raw["was_late"].tolist()])


def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)

    def gaps(values: Any) -> NDArray[Any]:
        return np.where(rng.random(rows) < 0.1, None, values)

    weight, slow = rng.gamma(2, 3, rows).clip(0, 100), rng.random(rows) < 0.5
    late = rng.random(rows) < 1 / (1 + np.exp(-(0.4 * weight - 3 + 2 * slow)))
    return {
        "weight": weight,
        "pieces": rng.integers(1, 9, rows),
        "speed": np.where(slow, "slow", "fast").astype(object),
        "insured": rng.random(rows) < 0.5,
        "sent": (np.datetime64("2024-01-01") + rng.integers(0, 300, rows)).astype("datetime64[us]"),
        "town": np.array([f"town {number}" for number in rng.integers(0, 900, rows)], object),
        "floors": gaps(rng.integers(0, 9, rows)).astype(float),
        "fragile": gaps(rng.random(rows) < 0.2),
        "value": gaps(rng.gamma(2, 30, rows)).astype(float),
        "colour": gaps(np.where(rng.random(rows) < 0.5, "red", "blue")),
        **{name: rng.normal(size=rows) for name in NUMBERS},
        "was_late": late,
    }
