"""Why a prediction is what it is: how much each feature moved the score away from a base value."""

from __future__ import annotations

import functools
import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from .. import problem
from ..base import params
from ..base.fields import Columns
from .bundle import Bundle, ModelError
from .predictor import Fixed, Predictor

EXTRA = "explain.npz"
"""The bundle's file for explanations: the leaves of a model's trees, or reference rows."""

Scores = Callable[[NDArray[np.float32]], NDArray[Any]]
Explained = tuple[NDArray[np.float64], NDArray[np.float64]]

CELLS = 1_000_000
"""The maximum number of values in one step of a computation; more rows are explained in parts."""


class Parts(BaseModel):
    """With explain=true: parts that sum to the model's score, before it becomes the answer."""

    method: Literal["exact", "sampled"]
    unit: str = Field(description="Of all parts; log-odds where the answer is a probability")
    base_value: float = Field(description="The average score, before any feature of the record is known")
    contributions: dict[str, float]
    score: float = Field(description="base_value and all contributions together")


class Explain(params.Section):
    """The maximum number of records in a request with an explanation: each takes a millisecond or more."""

    table = "explain"
    max_records: int = Field(default=50, ge=1)


class Explaining(Fixed):
    """A predictor that can add an explanation to its answers."""

    def __init__(self, predictor: Predictor, bundle: Bundle) -> None:
        self.card, self.fields, self.predict = predictor.card, predictor.fields, predictor.predict
        self.additions: Mapping[str, Any] = {"explain": Explanation(bundle, predictor.of_features)}


class Explanation:
    """Splits each score into a base value and the contribution of each feature; these always sum to the score.

    The parts are Shapley values. For a tree model they are computed exactly from its leaves; for any other model they
    are averages over sampled orders of the features, which is exact if the effects of features only add up, as in a linear model.

    Args:
        bundle: the model; its card names the scale, its `explain.npz` has leaves or reference rows.
        scores: the model itself, from (n, features) to (n,) or (n, classes).

    Attributes:
        field: the field of an answer that contains it.
        about: its description in the service's OpenAPI.
        schema: the JSON schema of what `rows` returns for one record.
    """

    field = "explanation"
    about = "Also return each feature's contribution to the score"

    def __init__(self, bundle: Bundle, scores: Scores) -> None:
        self._bundle, self._scores, self.schema = bundle, scores, Parts.model_json_schema()

    @functools.cached_property
    def most(self) -> int:
        """The maximum number of records in a request; a job explains all of its rows and has no settings file."""
        return int(Explain.load().max_records)

    def rows(self, columns: Columns) -> list[Any]:
        """For each record its method, unit, base value, contributions and score.

        Raises:
            ModelError: the model was made without what explanations need.
        """
        base, contributions = self.parts(problem.features(columns))
        known = {name: self._bundle.card["explanation"][name] for name in ("method", "unit")}
        named = [dict(zip(problem.FEATURES, each, strict=True)) for each in contributions.tolist()]
        return [
            {**known, "base_value": one, "contributions": each, "score": one + sum(each.values())}
            for one, each in zip(base.tolist(), named, strict=True)
        ]

    def columns(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """`base_value` and, of each feature, `contribution_<feature>`, each of shape (n,).

        Raises:
            ModelError: like `rows`.
        """
        base, contributions = self.parts(problem.features(columns))
        names = [f"contribution_{name}" for name in problem.FEATURES]
        return {"base_value": base, **dict(zip(names, contributions.T, strict=True))}

    def parts(self, matrix: NDArray[np.float32]) -> Explained:
        """The base value of n rows, shape (n,), and what each feature adds to it, shape (n, features).

        With more than two classes, the score of the most probable one is split.

        Raises:
            ModelError: like `rows`.
        """
        held = self._held
        exact = "leaf_weight" in held
        size = max(1, CELLS // (held["share"].size if exact else held["reference"].size * matrix.shape[1]))
        pieces = [matrix[start : start + size] for start in range(0, len(matrix), size)] or [matrix]
        found = [of_leaves(held, each) if exact else of_orders(held, each, self._on_scale) for each in pieces]
        base, contributions = (np.concatenate(each) for each in zip(*found, strict=True))
        if problem.TASK == "multiclass":
            best = self._scores(matrix).argmax(axis=1)
            rows = np.arange(len(matrix))
            return base[rows, best], contributions[rows, :, best]
        return base[:, 0], contributions[:, :, 0]

    @functools.cached_property
    def _held(self) -> dict[str, NDArray[Any]]:
        try:
            with np.load(io.BytesIO(self._bundle.extras[EXTRA]), allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except KeyError:
            raise ModelError("this model was made without what explanations need: train again") from None
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise ModelError(f"{EXTRA} cannot be read ({error}): train again") from None

    def _on_scale(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        return scaled(self._scores(matrix), self._bundle.card["explanation"]["scale"])


def scaled(scores: NDArray[Any], scale: str) -> NDArray[np.float64]:
    """Scores of n rows, shape (n, 1) or (n, classes), on the scale on which parts add up.

    Probabilities become log-odds: against the other class, or against the geometric mean of several.
    """
    table = np.asarray(scores, np.float64).reshape(len(scores), -1)
    if scale != "log-odds":
        return table
    logs = np.log(np.clip(table, 1e-7, 1 - 1e-7))
    if table.shape[1] > 1:
        return np.asarray(logs - logs.mean(axis=1, keepdims=True))
    return np.asarray(logs - np.log1p(-np.clip(table, 1e-7, 1 - 1e-7)))


def of_leaves(held: Mapping[str, NDArray[Any]], matrix: NDArray[np.float32]) -> Explained:
    """Exact Shapley values of a sum of trees; shapes (n, outputs) and (n, features, outputs).

    A leaf adds its weight for rows that pass every test on the path to it. A feature that is not known yet passes its
    tests with the share of the training rows that did (Lundberg et al. 2020, path-dependent TreeSHAP). The average over
    all orders in which features become known is an integral over their number (Owen 1972), of a polynomial of a degree
    below the number of features on the path: Gauss quadrature computes it exactly.

    `held` has for each leaf and each feature on the path to it, shape (leaves, depth): `feature`, the interval from `low`
    to `high` (excluded) that passes, whether a `missing` value does, and the `share` of training rows.
    """
    values = matrix[:, held["feature"]]
    passes = np.where(np.isnan(values), held["missing"], (values >= held["low"]) & (values < held["high"]))
    share = held["share"]
    nodes, weights = np.polynomial.legendre.leggauss((share.shape[1] + 1) // 2)
    average = np.zeros(values.shape)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        factors = share * (1 - node) + passes * node
        average += weight * factors.prod(axis=2, keepdims=True) / factors
    moved = average * (passes - share)
    order, starts, features = held["order"], held["starts"], held["used"]
    outputs = held["leaf_weight"].shape[1]
    contributions = np.zeros((len(matrix), matrix.shape[1], outputs))
    for output in range(outputs):
        weighted = (moved * held["leaf_weight"][:, output, None]).reshape(len(matrix), order.size)[:, order]
        contributions[:, features, output] = np.add.reduceat(weighted, starts, axis=1)
    return np.broadcast_to(held["base"], (len(matrix), outputs)), contributions


def of_orders(held: Mapping[str, NDArray[Any]], matrix: NDArray[np.float32], scores: Scores) -> Explained:
    """Shapley values of any model by sampled orders (Štrumbelj and Kononenko 2014); shapes as for `of_leaves`.

    Starting from each of the `reference` rows, features take the explained row's value one after the other, in one order of
    `held["rank"]` and in its reverse; the change in each step is the contribution of its feature.
    """
    reference, rank = held["reference"], held["rank"]
    (rows, features), steps = reference.shape, np.arange(reference.shape[1] + 1)
    base, contributions = [], []
    for row in matrix:
        total, first = 0, 0
        for place in (rank, features - 1 - rank):
            known = place[:, None, :] < steps[:, None]
            said = scores(np.where(known, row, reference[:, None, :]).reshape(-1, features))
            said = said.reshape(rows, features + 1, -1)
            total = total + np.take_along_axis(np.diff(said, axis=1), place[:, :, None], axis=1).mean(axis=0) / 2
            first = first + said[:, 0].mean(axis=0) / 2
        base.append(first)
        contributions.append(total)
    if not contributions:
        outputs = scores(reference[:1]).shape[1]
        return np.zeros((0, outputs)), np.zeros((0, features, outputs))
    return np.array(base), np.array(contributions)
