"""From a fitted estimator to a file that is no pickle, and the proof that both say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import problem
from .cli import UserError

OPSET = {"": 15, "ai.onnx.ml": 3}
"""Old enough for every onnxruntime of the last years, new enough for both converters."""


def export(estimator: Any, form: str, say: Callable[[str], None]) -> tuple[bytes, dict[str, Any]]:
    """The fitted estimator as an ONNX graph, or as a skops file, and what the card says of that.

    `form` is `onnx`, `sklearn`, or `auto`: a graph where there is a converter, else a skops file.

    Raises:
        UserError: a graph is asked for and there is no converter.
    """
    if form != "sklearn":
        try:
            return to_onnx(estimator), {"file": "model.onnx"}
        except (NotImplementedError, RuntimeError, ValueError, TypeError) as error:
            why = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:120]}"
            if form == "onnx":
                raise UserError(
                    f'this estimator has no ONNX graph ({why}): choose another, or package.format = "sklearn" in '
                    "params.toml, which is slower"
                ) from None
            say("it has no ONNX converter and is kept as a skops file: one record takes ten to a hundred times as long")
    from skops import io

    content = io.dumps(estimator)
    return content, {"file": "model.skops", "trusted_types": io.get_untrusted_types(data=content)}


def to_onnx(estimator: Any) -> bytes:
    """The fitted estimator as a graph from one float32 matrix (n, features) to scores.

    Raises:
        Exception: the converters' own, where they do not know the estimator.
    """
    if type(estimator).__module__.startswith("xgboost"):
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        shape = FloatTensorType([None, len(problem.FEATURES)])
        graph = convert_xgboost(estimator, initial_types=[("features", shape)], target_opset=OPSET[""])
    else:
        from skl2onnx import to_onnx as convert

        options = {} if problem.TASK == "regression" else {"zipmap": False}
        example = np.zeros((1, len(problem.FEATURES)), np.float32)
        graph = convert(estimator, example, target_opset=OPSET, options=options)
    return bytes(graph.SerializeToString())


def scores(estimator: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
    """What the estimator itself says, in the shape that the predictor gives."""
    if problem.TASK == "regression":
        return np.asarray(estimator.predict(matrix)).reshape(len(matrix))
    table = np.asarray(estimator.predict_proba(matrix))
    return table[:, 1] if problem.TASK == "binary" else table


def check_parity(expected: NDArray[Any], packaged: NDArray[Any], tolerance: float) -> float:
    """The largest difference between the estimator's and the packaged model's scores, both of the same shape.

    Raises:
        UserError: it is over the tolerance, in the unit of the scores.
    """
    difference = float(np.abs(np.asarray(expected, np.float64) - packaged).max())
    if not difference <= tolerance:
        raise UserError(
            f"the packaged model differs from the estimator by {difference:.6g} {problem.UNIT}, more than "
            f"package.tolerance = {tolerance:g} in params.toml: do not serve it"
        )
    return difference
