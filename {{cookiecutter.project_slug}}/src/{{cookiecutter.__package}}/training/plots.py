"""Plots for judging a model; each run logs them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.metrics import PredictionErrorDisplay, RocCurveDisplay

from .. import problem
from ..data.clean import Dataset
from ..metrics import METRICS

ROWS = 2_000
"""The number of validation rows for permutation importance and partial dependence."""


def all_plots(newest: Dataset, scores: NDArray[Any], estimator: Any, segments: Any) -> dict[str, Figure]:
    """File name -> figure, for n validation rows, their `Predictor.measured` scores and `evaluate.segments`."""
    matrix = problem.features(newest.columns)
    drops = dropped(newest.target, matrix, estimator)
    order = np.argsort(drops)
    important = bars([problem.FEATURES[i] for i in order], drops[order].tolist(), f"{problem.METRIC} gets worse by")
    figures = {"importance": important, "partial_dependence": partial_dependence(matrix, estimator, drops)}
    if problem.TASK == "regression":
        figures["predicted_against_actual"] = _drawn(
            PredictionErrorDisplay.from_predictions, newest.target, scores, kind="actual_vs_predicted", random_state=0
        )
    elif problem.TASK == "binary":
        figures["roc"] = _drawn(RocCurveDisplay.from_predictions, newest.target, scores)
        tenths = {"n_bins": 10, "strategy": "quantile"}
        figures["calibration"] = _drawn(CalibrationDisplay.from_predictions, newest.target, scores, **tenths)
    for name in problem.SEGMENTS:
        found = {part["part"]: part["metrics"][problem.METRIC] for part in segments if part["feature"] == name}
        figures[f"{problem.METRIC}_by_{name}"] = bars(list(found), list(found.values()), f"{problem.METRIC} by {name}")
    return {f"{name}.png": figure for name, figure in figures.items()}


def _drawn(display: Any, *rows: NDArray[Any], **settings: Any) -> Figure:
    figure = Figure(figsize=(6, 6), layout="constrained")
    display(*rows, ax=figure.subplots(), **settings)
    return figure


def bars(names: Sequence[str], values: Sequence[float], label: str) -> Figure:
    """A bar for each value, the last on top."""
    figure = Figure(figsize=(7, max(4, 0.2 * len(names))), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, values)
    axes.set(xlabel=label)
    return figure


def dropped(actual: NDArray[np.float64], matrix: NDArray[np.float32], estimator: Any) -> NDArray[np.float64]:
    """How much worse the metric gets when a feature is shuffled, shape (features,) (permutation importance, Breiman 2001)."""
    scoring = METRICS[problem.TASK][problem.METRIC].scorer
    found = permutation_importance(
        estimator, matrix[:ROWS], actual[:ROWS], n_repeats=3, random_state=0, scoring=scoring
    )
    return np.asarray(found.importances_mean)


def partial_dependence(matrix: NDArray[np.float32], estimator: Any, drops: NDArray[np.float64]) -> Figure:
    """The model's mean prediction for values of the four most important features (Friedman 2001)."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    features = np.argsort(-drops)[:4].tolist()
    axes = figure.subplots(1, len(features), squeeze=False).ravel()
    target = {"target": 0} if problem.TASK == "multiclass" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a feature without effect has a flat line
        PartialDependenceDisplay.from_estimator(
            estimator, matrix[:500], features, feature_names=problem.FEATURES, ax=axes, grid_resolution=30, **target
        )
    return figure
