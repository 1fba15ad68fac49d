"""The pictures that a person looks at before trusting a model; each run keeps them."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib.figure import Figure

from . import evaluate, problem

BINS = 12
SCORING = {"regression": "neg_root_mean_squared_error", "binary": "roc_auc", "multiclass": "neg_log_loss"}


def all_plots(
    actual: NDArray[np.float64], predicted: NDArray[np.float64], matrix: NDArray[np.float32], estimator: Any
) -> dict[str, Figure]:
    """File name -> figure, for validation rows: `actual` of shape (n,), `matrix` (n, features), scores in `predicted`."""
    drops = dropped(actual, matrix, estimator)
    figures = {"importance": importance(drops), "partial_dependence": partial_dependence(matrix, estimator, drops)}
    if problem.TASK == "regression":
        figures["predicted_against_actual"] = against(actual, predicted)
    elif problem.TASK == "binary":
        figures |= {"roc": roc(actual, predicted), "calibration": calibration(actual, predicted)}
    for name in problem.SEGMENTS if problem.TASK != "multiclass" else ():
        values = matrix[:, problem.FEATURES.index(name)]
        figures[f"error_by_{name}"] = error_by(name, values, predicted - actual)
    return {f"{name}.png": figure for name, figure in figures.items()}


def against(actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Figure:
    """Predictions over true values; a perfect model lies on the diagonal."""
    figure, axes = _drawing(6, 6)
    axes.plot(actual, predicted, ".", markersize=2, alpha=0.4)
    ends = [float(actual.min()), float(actual.max())]
    axes.plot(ends, ends, color="black", linewidth=0.8)
    axes.set(xlabel=f"actual {problem.TARGET} ({problem.UNIT})", ylabel=f"predicted {problem.TARGET} ({problem.UNIT})")
    return figure


def roc(actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Figure:
    """The share of class 1 that is found over the share of class 0 that is taken for it, for every threshold."""
    order = np.argsort(-predicted, kind="stable")
    positive = actual[order] == 1
    figure, axes = _drawing(6, 6)
    axes.plot(np.cumsum(~positive) / max((~positive).sum(), 1), np.cumsum(positive) / max(positive.sum(), 1))
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    return figure


def calibration(actual: NDArray[np.float64], predicted: NDArray[np.float64]) -> Figure:
    """How often class 1 came true over how probable it was said to be, in ten bins of equal numbers of rows."""
    tenths = evaluate.calibration(actual, predicted)
    figure, axes = _drawing(6, 6)
    axes.plot([tenth["said"] for tenth in tenths], [tenth["came_true"] for tenth in tenths], "o-")
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8)
    axes.set(xlabel=f"said probability of {problem.TARGET}", ylabel="share that came true")
    return figure


def _drawing(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def error_by(name: str, values: NDArray[Any], error: NDArray[np.float64]) -> Figure:
    """Root mean squared error and bias in up to twelve bins of equal numbers of rows."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    groups = np.unique(bins)
    middle = [float(values[bins == group].mean()) for group in groups]
    figure, axes = _drawing(7, 4)
    axes.plot(middle, [float(np.sqrt(np.mean(error[bins == group] ** 2))) for group in groups], "o-", label="rmse")
    axes.plot(middle, [float(error[bins == group].mean()) for group in groups], "s--", label="mean error")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel=name, ylabel=problem.UNIT or problem.TARGET)
    axes.legend()
    return figure


def dropped(actual: NDArray[np.float64], matrix: NDArray[np.float32], estimator: Any) -> NDArray[np.float64]:
    """How much worse the metric gets when a feature is shuffled, shape (features,) (permutation importance, Breiman 2001)."""
    from sklearn.inspection import permutation_importance

    rows = slice(2_000)
    found = permutation_importance(
        estimator, matrix[rows], actual[rows], n_repeats=3, random_state=0, scoring=SCORING[problem.TASK]
    )
    return np.asarray(found.importances_mean)


def importance(drops: NDArray[np.float64]) -> Figure:
    """Each feature's importance as `dropped` gives it, the greatest on top."""
    order = np.argsort(drops)
    figure, axes = _drawing(7, max(4, 0.2 * len(order)))
    axes.barh([problem.FEATURES[i] for i in order], drops[order])
    axes.set(xlabel=f"{SCORING[problem.TASK].removeprefix('neg_')} gets worse by")
    return figure


def partial_dependence(matrix: NDArray[np.float32], estimator: Any, drops: NDArray[np.float64]) -> Figure:
    """What the model says on average for values of the four most important features (Friedman 2001)."""
    from sklearn.inspection import partial_dependence as depend

    figure = Figure(figsize=(9, 6), layout="constrained")
    names = {"regression": f"{problem.TARGET} {problem.UNIT}".strip(), "binary": f"probability of {problem.TARGET}"}
    for place, feature in enumerate(np.argsort(-drops)[:4].tolist()):
        found = depend(estimator, matrix[:500], [feature], kind="average", grid_resolution=30)
        axes = figure.add_subplot(2, 2, place + 1)
        for line in found["average"]:
            axes.plot(found["grid_values"][0], line)
        axes.set(xlabel=problem.FEATURES[feature], ylabel=names.get(problem.TASK, "probability of each class"))
    return figure
