"""Which grape a wine is made of: a problem of more than two classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, create_model

Columns = Mapping[str, NDArray[Any]]
TITLE = "Which grape is it?"
TASK, TARGET, UNIT, TIME, ID, METRIC = "multiclass", "grape", "", "", "bottle", "log_loss"
NAMES = (
    "alcohol", "malic_acid", "ash", "alcalinity", "magnesium", "phenols", "flavanoids", "nonflavanoids",
    "proanthocyanins", "colour", "hue", "dilution", "proline",
)  # fmt: skip
GRAPES = ("barolo", "grignolino", "barbera")


class _Strict(BaseModel):
    """What a laboratory knows of a wine."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


Record: type[BaseModel] = create_model(
    "Record", __base__=_Strict, **{name: (float, Field(ge=0, le=5000)) for name in NAMES}
)


class Answer(BaseModel):
    """What the model says."""

    grape: Literal["barolo", "grignolino", "barbera"]
    probability: float


EXAMPLE = dict(zip(NAMES, (14.2, 1.7, 2.4, 15.6, 127.0, 2.8, 3.1, 0.3, 2.3, 5.6, 1.0, 3.9, 1065.0), strict=True))
FEATURES, CATEGORIES, SEGMENTS = NAMES, (), ()
SOURCE, ALIASES, TARGET_RULES = "", {}, {}
RAW: dict[str, type] = {**dict.fromkeys(NAMES, float), "grape_seen": str}


def features(columns: Columns) -> NDArray[np.float32]:
    return np.column_stack([columns[name] for name in NAMES]).astype(np.float32)


def answer(scores: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    names = np.array(GRAPES, object)
    return {"grape": names[scores.argmax(axis=1)], "probability": scores.max(axis=1).astype(np.float64).round(4)}


def prepare(raw: Columns) -> Columns:
    return raw


def target(raw: Columns) -> NDArray[np.float64]:
    return np.array(
        [GRAPES.index(name) if name in GRAPES else np.nan for name in raw["grape_seen"].tolist()], np.float64
    )


def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:
    from sklearn.datasets import load_wine

    data, kind = load_wine(return_X_y=True)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(data), rows)
    values = np.abs(data[chosen] * rng.normal(1, 0.1, (rows, len(NAMES))))
    return {**dict(zip(NAMES, values.T, strict=True)), "grape_seen": np.array(GRAPES, object)[kind[chosen]]}
