"""The pictures that a person looks at before trusting a model; each run keeps them."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib.figure import Figure

from . import problem

BINS = 12


def all_plots(
    actual: NDArray[np.float64], predicted: NDArray[np.float64], matrix: NDArray[np.float32], estimator: Any
) -> dict[str, Figure]:
    """File name -> figure, for validation rows: `actual` and `predicted` of shape (n,), `matrix` (n, features)."""
    figures = {
        "predicted_against_actual": against(actual, predicted),
        "importance": importance(actual, matrix, estimator),
    }
    for name in problem.SEGMENTS:
        values = matrix[:, problem.FEATURES.index(name)]
        figures[f"error_by_{name}"] = error_by(name, values, predicted - actual)
    return {f"{name}.png": figure for name, figure in figures.items()}


def against(actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Figure:
    """Predictions over true values; a perfect model lies on the diagonal."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    axes.plot(actual, predicted, ".", markersize=2, alpha=0.4)
    ends = [float(actual.min()), float(actual.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xlabel=f"actual {problem.TARGET} ({problem.UNIT})", ylabel=f"predicted {problem.TARGET} ({problem.UNIT})")
    return figure


def error_by(name: str, values: NDArray[Any], error: NDArray[np.float64]) -> Figure:
    """Root mean squared error and bias in up to twelve bins of equal numbers of rows."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups = np.unique(bins)
    middle = [float(values[bins == group].mean()) for group in groups]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(middle, [float(np.sqrt(np.mean(error[bins == group] ** 2))) for group in groups], "o-", label="rmse")
    axes.plot(middle, [float(error[bins == group].mean()) for group in groups], "s--", label="mean error")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel=name, ylabel=problem.UNIT)
    axes.legend()
    return figure


def importance(actual: NDArray[np.float64], matrix: NDArray[np.float32], estimator: Any) -> Figure:
    """Permutation importance (Breiman 2001): how much the error grows when one feature is shuffled."""
    from sklearn.inspection import permutation_importance

    rows = slice(2_000)
    result = permutation_importance(
        estimator, matrix[rows], actual[rows], n_repeats=3, random_state=0, scoring="neg_root_mean_squared_error"
    )
    order = np.argsort(result.importances_mean)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.barh([problem.FEATURES[i] for i in order], result.importances_mean[order])
    axes.set(xlabel=f"rmse grows by ({problem.UNIT})")
    return figure
