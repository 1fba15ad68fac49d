"""From a fitted estimator to an ONNX graph, and the proof that both say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import problem
from .cli import UserError

OPSET = {"": 15, "ai.onnx.ml": 3}
"""Old enough for every onnxruntime of the last years, new enough for both converters."""


def to_onnx(estimator: Any) -> bytes:
    """The fitted estimator as a graph from one float32 matrix (n, features) to one column of scores."""
    if type(estimator).__module__.startswith("xgboost"):
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        shape = FloatTensorType([None, len(problem.FEATURES)])
        graph = convert_xgboost(estimator, initial_types=[("features", shape)], target_opset=OPSET[""])
    else:
        from skl2onnx import to_onnx as convert

        graph = convert(estimator, np.zeros((1, len(problem.FEATURES)), np.float32), target_opset=OPSET)
    return bytes(graph.SerializeToString())


def check_parity(expected: NDArray[Any], packaged: NDArray[Any], tolerance: float) -> float:
    """The largest difference between the estimator's and the packaged model's answers, both of shape (n,).

    Raises:
        UserError: it is over the tolerance, in the unit of the answer.
    """
    difference = float(np.abs(np.asarray(expected, np.float64) - packaged).max())
    if not difference <= tolerance:
        raise UserError(
            f"the packaged model differs from the estimator by {difference:.6g} {problem.UNIT}, more than "
            f"package.tolerance = {tolerance:g} in params.toml: do not serve it"
        )
    return difference
