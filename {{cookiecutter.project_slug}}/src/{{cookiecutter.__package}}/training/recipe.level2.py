"""What a training reads, measures, draws and puts into the bundle at this level, put together in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import metrics, problem
from ..base import params
from ..data import data_lock, drift
from ..data.clean import Dataset
from ..model.bundle import Bundle
from ..model.explain import EXTRA
from ..model.predictor import Predictor
from . import evaluate, explanations, plots

rows = data_lock.rows
"""Where training data come from."""


def measure(
    older: Dataset, newest: Dataset, seen: NDArray[Any], scores: NDArray[Any], settings: params.Params
) -> dict[str, Any]:
    """What the card says of the model's worth: metrics, their intervals, segments, calibration and folds.

    `seen` and `scores` are the predictor's `measured` of the training rows and of the validation rows.
    """
    found = metrics.compared(newest.target, scores, older.target, seen)
    found |= evaluate.folds(older, settings, evaluate.Evaluate.load().folds)
    return {"metrics": found, **evaluate.details(newest, scores, settings.data.seed)}


def enclose(
    bundle: Bundle, predictor: Predictor, older: Dataset, features: NDArray[np.float32], seen: NDArray[Any]
) -> Bundle:
    """The bundle with what explanations, the model card and checks for drift need; `features` (n, features), `seen` their scores."""
    content, about = explanations.prepared(bundle, features, predictor.of_features)
    columns = drift.seen(features, seen)
    usual = drift.reference(columns)
    limits = drift.limits(usual, columns, drift.times(older.columns), drift.Drift.load(), params.load().data.seed)
    quantiles = pd.DataFrame(features, columns=problem.FEATURES).quantile([0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).round(4)
    quantiles = quantiles.dropna(axis=1)  # a feature that is missing in every row has none
    told = {"explanation": about, "reference": quantiles.to_dict("list"), "distribution": usual, "drift": limits}
    return replace(bundle, card=bundle.card | told, extras={EXTRA: content})


def draw(estimator: Any, newest: Dataset, scores: NDArray[Any], card: dict[str, Any]) -> dict[str, Any]:
    """File name -> figure, for the run."""
    return plots.all_plots(newest, scores, estimator, card["segments"])
