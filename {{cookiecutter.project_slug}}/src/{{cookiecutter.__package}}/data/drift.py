"""How far data have moved from what a model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import problem

FEW = 20
"""A feature with up to so many values has a bin for each; one with more has ten bins of equal numbers of rows."""

LEAST_SHARE = 1e-4
"""A bin without rows counts as one with this share: a logarithm of nothing has no value."""

Reference = dict[str, dict[str, list[float]]]


def reference(matrix: NDArray[np.float32]) -> Reference:
    """For each feature of n rows, shape (n, features), where its bins begin and which share of the rows each has."""
    found = {}
    for name, values in zip(problem.FEATURES, matrix.T, strict=True):
        known = np.unique(values[~np.isnan(values)])
        edges = known if len(known) <= FEW else np.unique(np.nanquantile(values, np.linspace(0, 1, 11)))
        found[name] = {"edges": edges.astype(float).tolist(), "shares": _shares(edges, values).tolist()}
    return found


def psi(known: Reference, matrix: NDArray[np.float32]) -> dict[str, float]:
    """The population stability index of each feature: 0 for the same distribution (Siddiqi 2006).

    By custom, a feature has moved from 0.1 on and drifted from 0.25 on. Features that the reference has not are left out.
    """
    found = {}
    for name, values in zip(problem.FEATURES, matrix.T, strict=True):
        if name in known:
            was = np.maximum(known[name]["shares"], LEAST_SHARE)
            now = np.maximum(_shares(np.array(known[name]["edges"], np.float32), values), LEAST_SHARE)
            found[name] = float(np.sum((now - was) * np.log(now / was)))
    return found


def _shares(edges: NDArray[Any], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The share of rows before the first edge, from each edge to the next, from the last on, and without a value."""
    missing = np.isnan(values)
    places = np.where(missing, len(edges) + 1, np.searchsorted(edges, values, side="right"))
    return np.bincount(places, minlength=len(edges) + 2) / max(len(values), 1)
