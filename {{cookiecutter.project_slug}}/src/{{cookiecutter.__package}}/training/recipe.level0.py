"""What a training reads, measures and puts into the bundle at this level, put together in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import metrics
from ..base import params
from ..data import read
from ..data.clean import Dataset
from ..model.bundle import Bundle
from ..model.predictor import Predictor

rows = read.rows
"""Where training data come from."""


def measure(
    older: Dataset, newest: Dataset, seen: NDArray[Any], scores: NDArray[Any], settings: params.Params
) -> dict[str, Any]:
    """What the card says of the model's worth: metrics on the validation rows, on the training rows, without a model.

    `seen` and `scores` are the predictor's `measured` of the training rows and of the validation rows.
    """
    return {"metrics": metrics.compared(newest.target, scores, older.target, seen)}


def enclose(
    bundle: Bundle, predictor: Predictor, older: Dataset, features: NDArray[np.float32], seen: NDArray[Any]
) -> Bundle:
    """The bundle with what else belongs in it; `features` are those of the training rows, (n, features), `seen` their scores."""
    return bundle


def draw(estimator: Any, newest: Dataset, scores: NDArray[Any], card: dict[str, Any]) -> dict[str, Any]:
    """File name -> figure, for the run."""
    return {}
