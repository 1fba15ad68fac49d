"""The data for explanations of a trained model: the leaves of its trees, or reference rows."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import problem
from ..model.bundle import Bundle
from ..model.explain import EXTRA, Explanation, Scores, scaled

MOST_LEAVES = 60_000
"""Forests with more leaves are explained by sampled orders: computing with all leaves would take longer."""

COUNTED_ROWS = 50_000
REFERENCE_ROWS = 20
TOLERANCE = 0.005
"""The maximum difference between the parts' sum and a score: log-odds near certainty lose digits."""

SCALES = {"NONE": "", "LOGISTIC": "log-odds", "SOFTMAX": "log-odds"}
NOBODY = 1e-6
Arrays = dict[str, Any]
Way = dict[int, tuple[Any, Any, bool, float]]
Nodes = dict[int, tuple[bytes, int, float, bool, int, int]]


def prepared(bundle: Bundle, matrix: NDArray[np.float32], scores: Scores) -> tuple[bytes, dict[str, str]]:
    """The content of `explain.npz`, and the card's entry about explanations.

    `matrix` has the training rows, shape (n, features); `scores` is the exported model. Leaves are used if their
    parts sum to the model's own scores; if not, this code does not understand the graph.
    """
    rng = np.random.default_rng(0)
    # Every row is counted at each node of each tree: with many rows, a part of them gives the same shares.
    found = _leaves(bundle, matrix[rng.choice(len(matrix), COUNTED_ROWS)] if len(matrix) > COUNTED_ROWS else matrix)
    if found:
        arrays, scale = found
        made = _pack(arrays, "exact", scale)
        rows = matrix[:50]
        explained = Bundle(bundle.graph, bundle.card | {"explanation": made[1]}, {EXTRA: made[0]})
        base, contributions = Explanation(explained, scores).parts(rows)
        # With several classes, the score of the most probable one is split; otherwise there is only one.
        wanted = scaled(scores(rows), scale).max(axis=1)
        if np.abs(base + contributions.sum(axis=1) - wanted).max() <= TOLERANCE:
            return made
    reference = matrix[rng.choice(len(matrix), min(REFERENCE_ROWS, len(matrix)), replace=False)]
    rank = rng.random(reference.shape).argsort(axis=1).argsort(axis=1)
    scale = "" if problem.TASK == "regression" else "log-odds"
    return _pack({"reference": reference, "rank": rank}, "sampled", scale)


def _pack(arrays: Arrays, method: str, scale: str) -> tuple[bytes, dict[str, str]]:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    unit = (problem.UNIT or f"the unit of {problem.TARGET}") if problem.TASK == "regression" else "probability"
    return buffer.getvalue(), {"method": method, "scale": scale, "unit": scale or unit}


def _leaves(bundle: Bundle, matrix: NDArray[np.float32]) -> tuple[Arrays, str] | None:
    """Every leaf with the path to it, and the scale of its weight; None if the model is not an ensemble of trees."""
    if not bundle.file.endswith(".onnx"):
        return None
    steps = [node for node in onnx.load_model_from_string(bundle.graph).graph.node if node.op_type != "Identity"]
    if len(steps) != 1 or not steps[0].op_type.startswith("TreeEnsemble"):
        return None
    given = {each.name: onnx.helper.get_attribute_value(each) for each in steps[0].attribute}
    if sum(mode == b"LEAF" for mode in given["nodes_modes"]) > MOST_LEAVES:
        return None
    ways, weights, columns = [], _weights(given), np.ascontiguousarray(matrix.T)
    for tree, nodes in _trees(given).items():
        ways += [((tree, leaf), way) for leaf, way in _walk(nodes, columns)]
    depth = max(1, *(len(way) for _, way in ways))
    shape = (len(ways), depth)
    # A feature that a leaf does not test always passes, with a share of 1: it contributes nothing.
    arrays: Arrays = {
        "feature": np.zeros(shape, np.int32),
        "low": np.full(shape, -np.inf, np.float32),
        "high": np.full(shape, np.inf, np.float32),
        "missing": np.ones(shape, bool),
        "share": np.ones(shape),
    }
    for leaf, (_, way) in enumerate(ways):
        for slot, (feature, (low, high, missing, share)) in enumerate(way.items()):
            for name, value in zip(arrays, (feature, low, high, missing, share), strict=True):
                arrays[name][leaf, slot] = value
    flat = arrays["feature"].ravel()
    order = np.argsort(flat, kind="stable")
    used, starts = np.unique(flat[order], return_index=True)
    weight = np.array([weights[leaf] for leaf, _ in ways])
    base = np.array(given.get("base_values", [0.0] * weight.shape[1]))
    if len(base) > 1:
        weight, base = weight - weight.mean(axis=1, keepdims=True), base - base.mean()
    base = base + (weight * arrays["share"].prod(axis=1, keepdims=True)).sum(axis=0)
    scale = SCALES[given.get("post_transform", b"NONE").decode()]
    return arrays | {"order": order, "starts": starts, "used": used, "leaf_weight": weight, "base": base}, scale


def _weights(given: dict[str, Any]) -> dict[tuple[int, int], list[float]]:
    """(tree, node) of each leaf -> its weight for each output."""
    kind = "target" if "target_weights" in given else "class"
    outputs = max(given[f"{kind}_ids"]) + 1
    found: dict[tuple[int, int], list[float]] = {}
    columns = (given[f"{kind}_{name}"] for name in ("treeids", "nodeids", "ids", "weights"))
    for tree, node, output, weight in zip(*columns, strict=True):
        found.setdefault((tree, node), [0.0] * outputs)[output] += weight
    return found


def _walk(nodes: Nodes, columns: NDArray[np.float32]) -> Iterator[tuple[int, Way]]:
    """Each leaf of a tree, and for each feature on the path to it: low, high, whether a missing value passes, share.

    `columns` are the rows to count, shape (features, n).
    """
    unfinished: list[tuple[int, Way, NDArray[np.int64]]] = [(0, {}, np.arange(columns.shape[1]))]
    while unfinished:
        number, way, rows = unfinished.pop()
        mode, feature, value, missing, below, above = nodes[number]
        if mode == b"LEAF":
            yield number, way
            continue
        # A test for "at most" is one for "less than" the next float.
        limit = np.nextafter(np.float32(value), np.float32(np.inf)) if mode == b"BRANCH_LEQ" else np.float32(value)
        values = columns[feature][rows]
        passes = (values < limit) | np.isnan(values) if missing else values < limit
        low, high, known, share = way.get(feature, (-np.inf, np.inf, True, 1.0))
        # No path has a share of 0, because factors are divided by it.
        part = (passes.sum() + NOBODY) / (len(rows) + 2 * NOBODY)
        under = low, min(high, limit), known and missing, share * part
        over = max(low, limit), high, known and not missing, share * (1 - part)
        unfinished += [(above, way | {feature: over}, rows[~passes]), (below, way | {feature: under}, rows[passes])]


def _trees(given: dict[str, Any]) -> dict[int, Nodes]:
    """Tree -> node -> its test, its feature, whether a missing value passes, and the next nodes."""
    tracks = given.get("nodes_missing_value_tracks_true") or [0] * len(given["nodes_treeids"])
    named = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    columns = [given[f"nodes_{name}"] for name in named]
    found: dict[int, Nodes] = {}
    for tree, node, mode, feature, value, below, above, missing in zip(*columns, tracks, strict=True):
        found.setdefault(tree, {})[node] = mode, feature, value, bool(missing), below, above
    return found
