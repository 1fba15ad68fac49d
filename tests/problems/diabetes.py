"""How far a disease will have gone in a year: a third problem, of numbers only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, create_model

Columns = Mapping[str, NDArray[Any]]
TITLE = "How far will it go?"
TASK, TARGET, UNIT, TIME, ID, METRIC = "regression", "progression", "points", "", "patient", "rmse"
NAMES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


class _Strict(BaseModel):
    """What is known of a patient."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


Record: type[BaseModel] = create_model(
    "Record", __base__=_Strict, **{name: (float, Field(ge=0, le=1000)) for name in NAMES}
)


class Answer(BaseModel):
    """What the model says."""

    progression: float


EXAMPLE = dict(zip(NAMES, (59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.86, 87.0), strict=True))
FEATURES, CATEGORIES, SEGMENTS = NAMES, (), ("bmi",)
SOURCE, ALIASES, TARGET_RULES = "", {}, {}
RAW: dict[str, type] = dict.fromkeys((*NAMES, "progression_seen"), float)


def features(columns: Columns) -> NDArray[np.float32]:
    return np.column_stack([columns[name] for name in NAMES]).astype(np.float32)


def answer(scores: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    return {"progression": scores.astype(np.float64).round(4)}


def prepare(raw: Columns) -> Columns:
    return raw


def target(raw: Columns) -> NDArray[np.float64]:
    return np.asarray(raw["progression_seen"], np.float64)


def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:
    from sklearn.datasets import load_diabetes

    data, progression = load_diabetes(return_X_y=True, scaled=False)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(data), rows)
    values = np.abs(data[chosen] * rng.normal(1, 0.02, (rows, len(NAMES))))
    return {**dict(zip(NAMES, values.T, strict=True)), "progression_seen": progression[chosen]}
