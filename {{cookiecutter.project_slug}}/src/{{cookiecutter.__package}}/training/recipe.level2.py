"""What a training reads, measures, draws and puts into the bundle at this level."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import metrics, problem
from ..base import params
from ..data import drift, sources
from ..data.clean import Dataset
from ..model import conformal
from ..model.bundle import Bundle
from ..model.explain import EXTRA
from ..model.predictor import Predictor
from . import evaluate, explanations, plots

QUANTILES, MOST = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1], 8

rows = sources.rows
"""Reads the training data."""

loader = conformal
"""The module with which MLflow loads a logged model."""

ENGINES = ("memory", "disk", "spark")
"""Where the rows of a training can be held."""


def measure(
    older: Dataset, newest: Dataset, seen: NDArray[Any], scores: NDArray[Any], settings: params.Params
) -> dict[str, Any]:
    """The card's entries about quality: metrics, their intervals, segments, calibration and folds.

    `seen` and `scores` are the predictor's `measured` for the training rows and for the validation rows.
    """
    found = metrics.compared(newest.target, scores, older.target, seen)
    found |= evaluate.folds(older, settings, evaluate.Evaluate.load().folds)
    wanted = conformal.Interval.load().coverage
    inside, size = conformal.tried(newest.target, scores, wanted) if wanted else (None, None)
    told = {"metrics": found, **evaluate.details(newest, scores, settings.data.seed, inside)}
    if inside is None or size is None:
        return told
    found |= {"interval_coverage": float(inside.mean()), "interval_size": float(size.mean())}
    wide = f"{size.mean():.3g} {problem.UNIT if problem.TASK == 'regression' else 'classes'}".rstrip()
    return told | {"conformal": {"coverage": wanted, "wide": wide, **conformal.fitted(newest.target, scores, wanted)}}


def enclose(
    bundle: Bundle, predictor: Predictor, older: Dataset, features: NDArray[np.float32], seen: NDArray[Any]
) -> Bundle:
    """The bundle with the data for explanations, model card and drift; `features` (n, features), `seen` their scores."""
    content, about = explanations.prepared(bundle, features, predictor.of_features)
    some = drift.chosen(len(older))
    columns, times = drift.seen(features[some], seen[some]), drift.times(older.take(some).columns)
    usual = drift.reference(columns)
    limits = drift.limits(usual, columns, times, drift.Drift.load(), params.load().data.seed)
    told = {"explanation": about, **seen_values(older, features), "distribution": usual, "drift": limits}
    return replace(bundle, card=bundle.card | told, extras={EXTRA: content})


def seen_values(older: Dataset, features: NDArray[np.float32]) -> dict[str, Any]:
    """The values of n training rows, for the model card: `shares` of the most frequent values of categories, as in the
    record, and quantiles (`reference`) of every other feature; `features` (n, features)."""
    words = [
        name for name in problem.FEATURES
        if name in older.columns and (name in problem.CATEGORIES or older.columns[name].dtype == object)
    ]  # fmt: skip
    private = set(getattr(problem, "PRIVATE", ())) & set(problem.FEATURES)
    numbers = pd.DataFrame(features, columns=problem.FEATURES).drop(columns=private | set(words))
    quantiles = numbers.quantile(QUANTILES)
    quantiles = quantiles.dropna(axis=1)  # a feature that is missing in every row has none
    counts = {
        name: pd.Series(older.columns[name]).value_counts(normalize=True) for name in words if name not in private
    }
    shares = {
        name: {str(value)[:40]: share for value, share in each.head(MOST).items()} for name, each in counts.items()
    }
    return {"reference": quantiles.to_dict("list"), "shares": shares}


def draw(estimator: Any, newest: Dataset, scores: NDArray[Any], card: dict[str, Any]) -> dict[str, Any]:
    """File name -> figure, for the run."""
    return plots.all_plots(newest, scores, estimator, card["segments"])
