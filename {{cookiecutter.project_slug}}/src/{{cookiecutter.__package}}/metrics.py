"""How good scores are: the metrics of each task, what is known without a model, and how sure a figure is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import problem

Scores = NDArray[Any]
HIGHER = ("roc_auc", "accuracy", "f1")
"""Metrics of which more is better; of any other less is."""

RESAMPLES = 200


def metrics(actual: NDArray[np.float64], scores: Scores) -> dict[str, float]:
    """The metrics of the problem's task for n rows.

    `actual` has shape (n,): the target, or the number of the class. `scores` has shape (n,) for regression and for the
    probability of class 1, (n, classes) for the probabilities of more classes.
    """
    return {name: measure(actual, scores) for name, measure in MEASURES[problem.TASK].items()}


def loss(name: str, value: float) -> float:
    """A metric as something of which less is better: what is missing to 1 where more is."""
    return 1 - value if name in HIGHER else value


def constant(target: NDArray[np.float64], rows: int) -> Scores:
    """What is said of `rows` rows without a model: the mean of the target, or the share of each class."""
    if problem.TASK == "multiclass":
        shares = np.bincount(target.astype(int), minlength=classes(target)) / len(target)
        return np.tile(shares, (rows, 1))
    return np.full(rows, target.mean())


def classes(target: NDArray[np.float64]) -> int:
    """How many classes there are."""
    return int(target.max()) + 1


def interval(actual: NDArray[np.float64], scores: Scores, seed: int) -> dict[str, tuple[float, float]]:
    """Where each metric lies in 95 of 100 resamples of the rows (percentile bootstrap, Efron 1979)."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in MEASURES[problem.TASK]}
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(actual), len(actual))
        if problem.TASK != "regression" and len(np.unique(actual[rows])) < 2:
            continue
        for name, value in metrics(actual[rows], scores[rows]).items():
            found[name].append(value)
    ends = {name: np.quantile(values, [0.025, 0.975]) for name, values in found.items() if values}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def _rmse(actual: NDArray[np.float64], scores: Scores) -> float:
    return float(np.sqrt(np.mean((scores - actual) ** 2)))


def _mae(actual: NDArray[np.float64], scores: Scores) -> float:
    return float(np.mean(np.abs(scores - actual)))


def _brier(actual: NDArray[np.float64], scores: Scores) -> float:
    """Mean squared error of the probability (Brier 1950)."""
    return float(np.mean((scores - actual) ** 2))


def _roc_auc(actual: NDArray[np.float64], scores: Scores) -> float:
    """The chance that a row of class 1 scores above one of class 0 (Hanley and McNeil 1982), ties counting half."""
    positive = actual == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _log_loss(actual: NDArray[np.float64], scores: Scores) -> float:
    table = np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores
    said = table[np.arange(len(actual)), actual.astype(int)]
    return float(-np.mean(np.log(np.clip(said, 1e-15, 1))))


def _accuracy(actual: NDArray[np.float64], scores: Scores) -> float:
    return float(np.mean(scores.argmax(axis=1) == actual))


def _f1(actual: NDArray[np.float64], scores: Scores) -> float:
    """The mean over classes of the harmonic mean of precision and recall."""
    said, found = scores.argmax(axis=1), []
    for each in range(scores.shape[1]):
        hits = np.sum((said == each) & (actual == each))
        found.append(2 * hits / max(np.sum(said == each) + np.sum(actual == each), 1))
    return float(np.mean(found))


MEASURES: dict[str, dict[str, Callable[[NDArray[np.float64], Scores], float]]] = {
    "regression": {"rmse": _rmse, "mae": _mae},
    "binary": {"roc_auc": _roc_auc, "log_loss": _log_loss, "brier": _brier},
    "multiclass": {"log_loss": _log_loss, "accuracy": _accuracy, "f1": _f1},
}
