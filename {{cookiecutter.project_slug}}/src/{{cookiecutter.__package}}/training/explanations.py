"""What explanations need of a trained model: the leaves of its trees, or rows to compare with."""

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
"""Forests with more leaves are explained by sampled orders: a record would take longer by all of their leaves."""

COUNTED_ROWS = 50_000
REFERENCE_ROWS = 20
TOLERANCE = 0.005
"""How far the parts' sum may be from a score: log-odds near certainty lose digits."""

SCALES = {"NONE": "", "LOGISTIC": "log-odds", "SOFTMAX": "log-odds"}
NOBODY = 1e-6
Arrays = dict[str, Any]
Way = dict[int, tuple[Any, Any, bool, float]]
Nodes = dict[int, tuple[bytes, int, float, bool, int, int]]


def prepared(bundle: Bundle, matrix: NDArray[np.float32], scores: Scores) -> tuple[bytes, dict[str, str]]:
    """The content of `explain.npz`, and what the card says of explanations.

    `matrix` has the training rows, shape (n, features); `scores` is the exported model. Leaves are used where what they
    give sums to the model's own scores; where that is not so, this code does not understand the graph.
    """
    rng = np.random.default_rng(0)
    # Every row is counted at each node of each tree: of many rows a part tells the shares as well.
    found = _leaves(bundle, matrix[rng.choice(len(matrix), COUNTED_ROWS)] if len(matrix) > COUNTED_ROWS else matrix)
    if found:
        arrays, scale = found
        made = _pack(arrays, "exact", scale)
        rows = matrix[:50]
        explained = Bundle(bundle.graph, bundle.card | {"explanation": made[1]}, {EXTRA: made[0]})
        base, contributions = Explanation(explained, scores).parts(rows)
        # Of several classes the most probable one's score is split; otherwise there is one.
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
    """Every leaf with the way to it, and the scale that its weight is on; nothing where the model is no set of trees."""
    if not bundle.file.endswith(".onnx"):
        return None
    steps = [node for node in onnx.load_model_from_string(bundle.graph).graph.node if node.op_type != "Identity"]
    if len(steps) != 1 or not steps[0].op_type.startswith("TreeEnsemble"):
        return None
    given = {each.name: onnx.helper.get_attribute_value(each) for each in steps[0].attribute}
    if sum(mode == b"LEAF" for mode in given["nodes_modes"]) > MOST_LEAVES:
        return None
    ways, weights = [], _weights(given)
    for tree, nodes in _trees(given).items():
        ways += [((tree, leaf), way) for leaf, way in _walk(nodes, matrix)]
    depth = max(1, *(len(way) for _, way in ways))
    shape = (len(ways), depth)
    # What a leaf does not ask for passes always, in all of the training rows: it adds nothing.
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


def _walk(nodes: Nodes, matrix: NDArray[np.float32]) -> Iterator[tuple[int, Way]]:
    """Each leaf of a tree, and for each feature on the way to it: low, high, whether a missing value passes, share."""
    unfinished: list[tuple[int, Way, NDArray[np.float32]]] = [(0, {}, matrix)]
    while unfinished:
        number, way, rows = unfinished.pop()
        mode, feature, value, missing, below, above = nodes[number]
        if mode == b"LEAF":
            yield number, way
            continue
        # A test for "at most" is one for "under" the next number that there is.
        limit = np.nextafter(np.float32(value), np.float32(np.inf)) if mode == b"BRANCH_LEQ" else np.float32(value)
        values = rows[:, feature]
        passes = (values < limit) | (np.isnan(values) & missing)
        low, high, known, share = way.get(feature, (-np.inf, np.inf, True, 1.0))
        # No way has a share of nothing, so that factors can be divided by.
        part = (passes.sum() + NOBODY) / (len(rows) + 2 * NOBODY)
        under = low, min(high, limit), known and missing, share * part
        over = max(low, limit), high, known and not missing, share * (1 - part)
        unfinished += [(above, way | {feature: over}, rows[~passes]), (below, way | {feature: under}, rows[passes])]


def _trees(given: dict[str, Any]) -> dict[int, Nodes]:
    """Tree -> node -> what it tests, of which feature, whether a missing value passes, and where rows go."""
    tracks = given.get("nodes_missing_value_tracks_true") or [0] * len(given["nodes_treeids"])
    named = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
    columns = [given[f"nodes_{name}"] for name in named]
    found: dict[int, Nodes] = {}
    for tree, node, mode, feature, value, below, above, missing in zip(*columns, tracks, strict=True):
        found.setdefault(tree, {})[node] = mode, feature, value, bool(missing), below, above
    return found
