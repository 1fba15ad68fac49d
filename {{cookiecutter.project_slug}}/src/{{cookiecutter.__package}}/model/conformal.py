"""The uncertainty of an answer: an interval around a number, or the set of classes that cannot be ruled out, by split conformal prediction.

Vovk, Gammerman and Shafer 2005, "Algorithmic Learning in a Random World": for rows that are like the validation rows, the
share `coverage` has its truth inside. This holds for each tenth of the predictions and for each class separately
(their section 4.5, Mondrian), so that a large value has a wider interval than a small one and a rare class is covered too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .. import problem
from ..base import params
from ..base.errors import UserError
from .bundle import Bundle, read
from .load import Model
from .predictor import Predictor

TENTHS, LEAST_ROWS, FOLDS = 10, 100, 5

END = {"type": ["number", "null"]}
FIELDS: Mapping[str, Any] = (
    {"low": END | {"description": "What comes true is seldom less"}, "high": END | {"description": "Nor more"}}
    if problem.TASK == "regression"
    else {
        "prediction_set": {"type": ["string", "null"], "description": "Classes that cannot be ruled out, with commas"}
    }
)
"""The JSON schema of the fields that are added to those of `problem.Answer`; null from a model without intervals."""

NOTHING = np.array([np.nan]) if problem.TASK == "regression" else np.array([None], object)


class Interval(params.Section):
    """How often the truth is to be inside; 0 for no interval."""

    table = "interval"
    coverage: float = Field(default=0.0, ge=0, le=0.999)


class Conformal(Predictor):
    """A predictor whose answers also have `FIELDS`."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.fields = {**Predictor.fields, **FIELDS}
        known = bundle.card.get("conformal", {})
        self._held = {name: np.array(each) if isinstance(each, list) else each for name, each in known.items()}
        if self._held and problem.TASK != "regression":
            names = classes(bundle.card) if problem.TASK == "multiclass" else ["false", "true"]
            self._names = np.array([named(each) for each in names], object)

    def answers(self, scores: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The answers of `Predictor` for n scores, with `FIELDS`, each of shape (n,)."""
        known = super().answers(scores)
        if not self._held:
            return {**known, **dict.fromkeys(FIELDS, NOTHING.repeat(len(scores)))}
        if problem.TASK == "regression":
            low, high = ends(self._held, known[problem.TARGET])
            step = 10.0 ** self._held["digits"]
            return {**known, "low": np.floor(low * step) / step, "high": np.ceil(high * step) / step}
        kept, answered = possible(self._held, scores), known[problem.TARGET]
        if problem.TASK == "binary" and answered.dtype == bool:
            # With another threshold than a half the answer may be the less probable class.
            kept[np.arange(len(kept)), answered.astype(int)] = True
        sets = [",".join(self._names[row]) for row in kept]
        return {**known, "prediction_set": np.array(sets, object)}


def classes(card: dict[str, Any]) -> list[Any]:
    """The classes of a model of more than two, by the names that answers have."""
    whole = np.eye(card["classes"], dtype=np.float32)
    return list(problem.answer(whole, **card.get("decision", {}))[problem.TARGET].tolist())


def named(name: Any) -> str:
    """A class as it stands in a set, whose commas separate classes."""
    return str(name).replace(",", ";")


def predictor(bundle: Bundle, *beside: Bundle | None) -> Predictor:
    """The predictor of a bundle; it adds `FIELDS` if it, or one of the models `beside` it, was trained with `[interval] coverage`."""
    return (Conformal if any(each and "conformal" in each.card for each in (bundle, *beside)) else Predictor)(bundle)


def _load_pyfunc(path: str) -> Model:
    """MLflow's entry point, so that its own servers answer with `FIELDS` too."""
    return Model(predictor(read(Path(path))))


def fitted(target: NDArray[np.float64], said: NDArray[Any], coverage: float) -> dict[str, Any]:
    """The constants for `ends` or `possible`, from n rows that the model was not trained on.

    Args:
        target: the truth, shape (n,).
        said: what `Predictor.measured` returns for the same rows.
        coverage: how often the truth is to be inside.
    """
    if problem.TASK != "regression":
        table, classes = _table(said), target.astype(int)
        doubts = [1 - table[classes == each, each] for each in range(table.shape[1])]
        return {"limits": [min(_limit(each, coverage), 1.0) for each in doubts]}
    parts = min(TENTHS, max(1, len(said) // LEAST_ROWS))
    edges = np.unique(np.quantile(said, np.linspace(0, 1, parts + 1)[1:-1]))
    part, missed, tail = np.searchsorted(edges, said), target - said, (1 + coverage) / 2
    least, most = float(target.min()), float(target.max())
    widest = max(most, float(said.max())) - min(least, float(said.min()))
    # An interval contains its answer, also if all answers of a group were too high.
    low, high = (
        [min(max(_limit(sign * missed[part == each], tail), 0.0), widest) for each in range(len(edges) + 1)]
        for sign in (-1, 1)
    )
    digits = min(5 - math.ceil(math.log10(widest or 1)), 300)
    return {"edges": edges.tolist(), "low": low, "high": high, "least": least, "most": most, "digits": digits}


def _limit(values: NDArray[np.float64], share: float) -> float:
    """The value that another one like these n exceeds with a probability of at most 1 - share; infinite if n is too small."""
    rank = math.ceil((len(values) + 1) * share - 1e-9)
    return math.inf if rank > len(values) else float(np.partition(values, rank - 1)[rank - 1])


def ends(held: dict[str, Any], said: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high of n predictions, each of shape (n,), in the unit of the target; within the range of the target seen."""
    part = np.searchsorted(held["edges"], said)
    low, high = said - np.asarray(held["low"])[part], said + np.asarray(held["high"])[part]
    return np.minimum(np.maximum(low, held["least"]), said), np.maximum(np.minimum(high, held["most"]), said)


def possible(held: dict[str, Any], scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Which classes cannot be ruled out for n rows, shape (n, classes); the most probable class is always among them."""
    table = _table(scores)
    return np.asarray((1 - table <= held["limits"]) | (table == table.max(axis=1, keepdims=True)))


def _table(scores: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.column_stack([1 - scores, scores] if scores.ndim == 1 else [scores]), np.float64)


def tried(
    target: NDArray[np.float64], said: NDArray[Any], coverage: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether the truth of n rows is inside, and how wide the interval is (in the target's unit, or in classes), each of shape (n,).

    Each fifth of the rows is judged by what `fitted` computes from the others, so that no row judges itself.

    Raises:
        UserError: there are too few rows, or a record has a field of the same name as one of `FIELDS`.
    """
    if len(target) < 2 * FOLDS:
        raise UserError(
            f"interval.coverage: {len(target)} validation rows are too few for an interval: write 0, or add rows"
        )
    if taken := set(FIELDS) & {*problem.Record.model_fields, *problem.Answer.model_fields}:
        raise UserError(f"interval.coverage: problem.py has a field {min(taken)} already: rename it, or write 0")
    inside, size, fold = np.zeros(len(target), bool), np.zeros(len(target)), np.arange(len(target)) % FOLDS
    for rows in (fold == each for each in range(FOLDS)):
        held = fitted(target[~rows], said[~rows], coverage)
        if problem.TASK == "regression":
            low, high = ends(held, said[rows])
            inside[rows], size[rows] = (low <= target[rows]) & (target[rows] <= high), high - low
        else:
            kept = possible(held, said[rows])
            inside[rows], size[rows] = kept[np.arange(len(kept)), target[rows].astype(int)], kept.sum(axis=1)
    return inside, size
