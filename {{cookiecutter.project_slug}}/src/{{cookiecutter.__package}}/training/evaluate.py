"""How reliable a model's metrics are: intervals, segments, calibration, folds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from .. import estimators, metrics, problem
from ..base import params
from ..base.errors import UserError
from ..base.fields import Columns
from ..base.reports import rounded
from ..data.clean import Dataset
from . import export

FEW = 6
"""A feature with at most this many values is split by value, one with more into quarters of the rows."""

LEAST_ROWS = 30
RESAMPLES, MOST = 200, 20_000


def several(folds: int) -> int:
    """The number, unless it is 1."""
    if folds == 1:
        raise ValueError("one fold leaves nothing to train on: write 0 for none, or 2 and more")
    return folds


class Evaluate(params.Section):
    """The number of folds with which each training is also cross-validated; 0 for none."""

    table = "evaluate"
    folds: Annotated[int, AfterValidator(several)] = Field(default=0, ge=0, le=20)


def details(
    newest: Dataset, scores: NDArray[Any], seed: int, inside: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """`intervals`, `segments` and, for a probability, `calibration` for the card, from `Predictor.measured` scores.

    `inside` tells, if known, for which rows the truth is inside the answer's interval, shape (n,).
    """
    known = {"intervals": interval(newest.target, scores, seed), "segments": segments(newest, scores, inside)}
    return known | ({"calibration": calibration(newest.target, scores)} if problem.TASK == "binary" else {})


def beats_no_model(card: dict[str, Any], by: float) -> str:
    """Compare a trained model with the baseline; returns the result in one sentence.

    Raises:
        UserError: it is not better; the message has both figures.
    """
    metric, unit = problem.METRIC, f" {problem.UNIT}" if problem.UNIT else ""
    score, baseline = card["metrics"][metric], card["metrics"][f"baseline_{metric}"]
    if not metrics.loss(metric, score) <= metrics.loss(metric, baseline) * (1 - by):
        raise UserError(
            f"gate: {metric} {score:.4f}{unit} is not better than {baseline:.4f}, which needs no model, by "
            f"{by:.0%}; nothing was registered"
        )
    return f"{metric} {score:.4f}{unit} beats {baseline:.4f} without a model"


def interval(actual: NDArray[np.float64], scores: NDArray[Any], seed: int) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric, from resamples of the n rows (percentile bootstrap, Efron 1979).

    With very many rows a resample has `MOST` (m out of n, Bickel, Götze and van Zwet 1997): its deviation from the metric of all rows is scaled
    with the square root of the share.
    """
    rng, most, value = np.random.default_rng(seed), min(len(actual), MOST), metrics.metrics(actual, scores)
    resamples = (rng.integers(0, len(actual), most) for _ in range(RESAMPLES))
    whole = (rows for rows in resamples if problem.TASK == "regression" or np.ptp(actual[rows]))
    found = pd.DataFrame(metrics.metrics(actual[rows], scores[rows]) for rows in whole).quantile([0.025, 0.975])
    shrink = (most / len(actual)) ** 0.5
    ends = {name: [value[name] + (end - value[name]) * shrink for end in found[name]] for name in value}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def segments(newest: Dataset, scores: NDArray[Any], inside: NDArray[np.bool_] | None = None) -> list[dict[str, Any]]:
    """The metrics of segments of the validation rows: of each value of `problem.SEGMENTS`, or of quarters if it has many.

    `scores` are those of `Predictor.measured`. Segments with fewer than `LEAST_ROWS` rows are left out.
    """
    found = []
    for name in problem.SEGMENTS:
        for label, rows in parts(name, newest.columns):
            if rows.sum() >= LEAST_ROWS:
                values = metrics.metrics(newest.target[rows], scores[rows])
                values |= {} if inside is None else {"coverage": float(inside[rows].mean())}
                found.append({"feature": name, "part": label, "rows": int(rows.sum()), "metrics": values})
    return found


def parts(name: str, columns: Columns) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """The name of each segment, and its rows; with the record's own values if the feature is one of its fields."""
    values = columns[name] if name in columns else problem.features(columns)[:, problem.FEATURES.index(name)]
    if values.dtype == object:
        for text in sorted({value for value in values.tolist() if value is not None}):
            yield str(text), np.array([value == text for value in values.tolist()])
        return
    known = values.astype(np.float64)
    edges = np.unique(known[~np.isnan(known)])
    if len(edges) <= FEW:
        for edge, said in zip(edges, rounded(edges.tolist()), strict=True):
            yield said, known == edge
        return
    edges = np.unique(np.nanquantile(known, [0, 0.25, 0.5, 0.75, 1]))
    for (low, high), ends in zip(itertools.pairwise(edges), itertools.pairwise(rounded(edges.tolist())), strict=True):
        below = known <= high if high == edges[-1] else known < high
        yield " to ".join(ends), (known >= low) & below


def calibration(actual: NDArray[np.float64], scores: NDArray[Any]) -> list[dict[str, float]]:
    """For tenths of n rows by their probability of class 1, shape (n,): the predicted and the true share, and the number of rows."""
    parts = [part for part in np.array_split(np.argsort(scores, kind="stable"), 10) if len(part)]
    return [
        {"said": float(scores[part].mean()), "came_true": float(actual[part].mean()), "rows": len(part)}
        for part in parts
    ]


def folds(dataset: Dataset, settings: params.Params, number: int) -> dict[str, float]:
    """Mean and standard deviation of each metric over the folds (`cv_rmse`, `cv_rmse_std`); empty for 0."""
    if not number:
        return {}
    found = pd.DataFrame(each_fold(dataset, settings, number))
    spread = {f"cv_{name}_std": float(values.std(ddof=0)) for name, values in found.items()}
    return {f"cv_{name}": float(values.mean()) for name, values in found.items()} | spread


def each_fold(dataset: Dataset, settings: params.Params, number: int) -> Iterator[dict[str, float]]:
    """The metrics of each fold.

    If rows have a time, each fold is validated with later rows; otherwise every fold has the same share of
    each class.
    """
    from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit

    kind = KFold if problem.TASK == "regression" else StratifiedKFold
    splitter: Any = kind(number, shuffle=True, random_state=settings.data.seed)
    if problem.TIME:
        splitter = TimeSeriesSplit(number)
    matrix = problem.features(dataset.columns)
    for train, test in splitter.split(matrix, dataset.target):
        estimator = estimators.fit(matrix[train], dataset.target[train], settings)
        scores = export.scores(estimator, matrix[test])
        if problem.TASK == "regression":
            scores = problem.answer(scores, **settings.decision)[problem.TARGET]
        yield metrics.metrics(dataset.target[test], scores)
