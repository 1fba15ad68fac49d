"""What a training reads, measures and puts into the bundle at this level."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..base import params
from ..data import read
from ..data.clean import Dataset
from ..model import load
from ..model.bundle import Bundle
from ..model.predictor import Predictor

rows = read.rows
"""Reads the training data."""

loader = load
"""The module with which MLflow loads a logged model."""

ENGINES = ("memory",)
"""Where the rows of a training can be held."""


def measure(
    older: Dataset, newest: Dataset, seen: NDArray[Any], scores: NDArray[Any], settings: params.Params
) -> dict[str, Any]:
    """The card's entries about quality: metrics on the validation rows, on the training rows, without a model.

    `seen` and `scores` are the predictor's `measured` for the training rows and for the validation rows.
    """
    return {"metrics": metrics.compared(newest.target, scores, older.target, seen)}


def enclose(
    bundle: Bundle, predictor: Predictor, older: Dataset, features: NDArray[np.float32], seen: NDArray[Any]
) -> Bundle:
    """The bundle with its additional files; `features` are those of the training rows, (n, features), `seen` their scores."""
    return bundle


def draw(estimator: Any, newest: Dataset, scores: NDArray[Any], card: dict[str, Any]) -> dict[str, Any]:
    """File name -> figure, for the run."""
    return {}
