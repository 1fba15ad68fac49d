"""What a trained model is worth: on rows it has not seen, against no model at all, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import export, metrics, params, problem
from .cli import UserError
from .data import Dataset
from .estimators import build
from .predictor import Predictor
from .problem import Columns

FEW = 6
"""A feature with up to so many values is looked at value by value, one with more by quarters of the rows."""

LEAST_ROWS = 30


def measured(predictor: Predictor, columns: Columns) -> NDArray[Any]:
    """What is measured of the answers for n records: the target as it is served, or the probabilities of classes."""
    return predictor.predict(columns)[problem.TARGET] if problem.TASK == "regression" else predictor.scores(columns)


def evaluate(predictor: Predictor, older: Dataset, newest: Dataset, seed: int) -> dict[str, Any]:
    """`metrics`, `intervals`, `segments` and, for a probability, `calibration` for the card.

    Metrics are those on validation rows, on training rows (`train_`), and without a model (`baseline_`): the mean of the
    target, or the shares of the classes. Intervals are those of the validation metrics.
    """
    scores = measured(predictor, newest.columns)
    found = metrics.metrics(newest.target, scores)
    train = metrics.metrics(older.target, measured(predictor, older.columns))
    baseline = metrics.metrics(newest.target, metrics.constant(older.target, len(newest)))
    found |= {f"train_{name}": value for name, value in train.items()}
    found |= {f"baseline_{name}": value for name, value in baseline.items()}
    known = {"metrics": found, "intervals": metrics.interval(newest.target, scores, seed)}
    if problem.TASK == "binary":
        known["calibration"] = calibration(newest.target, scores)
    return {**known, "segments": segments(newest, scores)}


def segments(newest: Dataset, scores: NDArray[Any]) -> list[dict[str, Any]]:
    """The metrics of parts of the validation rows: of each value of `problem.SEGMENTS`, or of quarters where it has many.

    `scores` are those of `measured`. Parts of under `LEAST_ROWS` rows tell nothing and are left out.
    """
    found = []
    for name in problem.SEGMENTS:
        for label, rows in _parts(name, newest.columns):
            if rows.sum() >= LEAST_ROWS:
                values = metrics.metrics(newest.target[rows], scores[rows])
                found.append({"feature": name, "part": label, "rows": int(rows.sum()), "metrics": values})
    return found


def _parts(name: str, columns: Columns) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """What each part is called, and which rows it has; by the record's own words where the feature is one of its fields."""
    values = columns[name] if name in columns else problem.features(columns)[:, problem.FEATURES.index(name)]
    if values.dtype == object:
        for text in sorted({value for value in values.tolist() if value is not None}):
            yield str(text), np.array([value == text for value in values.tolist()])
        return
    known = values.astype(np.float64)
    edges = np.unique(known[~np.isnan(known)])
    if len(edges) <= FEW:
        for edge in edges:
            yield f"{edge:g}", known == edge
        return
    edges = np.unique(np.nanquantile(known, [0, 0.25, 0.5, 0.75, 1]))
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        last = number == len(edges) - 2
        yield f"{low:g} to {high:g}", (known >= low) & ((known <= high) if last else (known < high))


def calibration(actual: NDArray[np.float64], scores: NDArray[Any]) -> list[dict[str, float]]:
    """For tenths of n rows by their probability of class 1, shape (n,): what was said, what came true, how many rows."""
    parts = [part for part in np.array_split(np.argsort(scores, kind="stable"), 10) if len(part)]
    return [
        {"said": float(scores[part].mean()), "came_true": float(actual[part].mean()), "rows": len(part)}
        for part in parts
    ]


def beats_baseline(card: dict[str, Any]) -> bool:
    """Whether the model is better than no model on the validation rows."""
    name = problem.METRIC
    values = card["metrics"]
    return metrics.loss(name, values[name]) < metrics.loss(name, values[f"baseline_{name}"])


def settings_of(settings: params.Params) -> dict[str, Any]:
    """The parameters of the estimator that `params.toml` names."""
    name = settings.model.estimator
    return dict(settings.model.sklearn if "." in name else getattr(settings.model, name, {}))


def fit(features: NDArray[np.float32], target: NDArray[np.float64], settings: params.Params) -> Any:
    """The estimator that `params.toml` names, fitted on n rows.

    Raises:
        UserError: there is no such estimator, or it refuses one of its parameters.
    """
    try:
        estimator = build(settings.model.estimator, settings_of(settings), settings.data.seed)
        return estimator.fit(features, target)
    except (ValueError, TypeError) as error:
        raise UserError(f"params.toml [model]: {' '.join(str(error).split())[:300]}") from None


def folds(dataset: Dataset, settings: params.Params) -> dict[str, float]:
    """Mean and standard deviation over `data.folds` folds of each metric (`cv_rmse`, `cv_rmse_std`); nothing for 0."""
    if not settings.data.folds:
        return {}
    found = list(each_fold(dataset, settings))
    mean = {f"cv_{name}": float(np.mean([one[name] for one in found])) for name in found[0]}
    return mean | {f"cv_{name}_std": float(np.std([one[name] for one in found])) for name in found[0]}


def each_fold(dataset: Dataset, settings: params.Params) -> Iterator[dict[str, float]]:
    """The metrics of one fold after the other.

    Where rows have a time, each fold is validated with what comes after it; otherwise every fold has the same share of
    each class.
    """
    from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit

    number, seed = settings.data.folds, settings.data.seed
    if problem.TIME:
        splitter: Any = TimeSeriesSplit(number)
    else:
        splitter = (KFold if problem.TASK == "regression" else StratifiedKFold)(number, shuffle=True, random_state=seed)
    matrix = problem.features(dataset.columns)
    for train, test in splitter.split(matrix, dataset.target):
        estimator = fit(matrix[train], dataset.target[train], settings)
        scores = export.scores(estimator, matrix[test])
        if problem.TASK == "regression":
            scores = problem.answer(scores, **settings.decision)[problem.TARGET]
        yield metrics.metrics(dataset.target[test], scores)
