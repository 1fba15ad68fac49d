"""Export a fitted estimator to a file that is not a pickle, and check that both give the same scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import estimators, problem
from ..base import params
from ..base.errors import UserError, first_line


def export(estimator: Any, settings: params.Params, say: Callable[[str], None]) -> tuple[bytes, dict[str, Any]]:
    """The fitted estimator as an ONNX graph, or as a skops file, and the card's entry about the file.

    `export.format` is `onnx`, `skops`, or `auto`: a graph if there is a converter, else a skops file.

    Raises:
        UserError: a graph is required and there is no converter, or the file would have types that are not declared.
    """
    known = estimators.find(settings.model.estimator)
    if settings.export.format != "skops":
        try:
            return bytes(known.to_onnx(estimator).SerializeToString()), {"file": "model.onnx"}
        except (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            if settings.export.format == "onnx":
                raise UserError(
                    f"this estimator has no ONNX graph ({type(error).__name__}: {first_line(error)}): choose another, or "
                    'export.format = "skops" in params.toml, which is slower'
                ) from None
            say("it has no ONNX converter and is kept as a skops file: one record takes ten to a hundred times as long")
    from skops import io

    content = io.dumps(estimator)
    if unknown := sorted(set(io.get_untrusted_types(data=content)) - set(known.types)):
        raise UserError(
            f"{settings.model.estimator} is made of types that skops does not know: {', '.join(unknown)}; if they hold only "
            "numbers, give it an entry in estimators.py whose `types` names them"
        )
    return content, {"file": "model.skops"}


def scores(estimator: Any, matrix: NDArray[np.float32]) -> NDArray[Any]:
    """The estimator's own scores, in the shape of the predictor's."""
    if problem.TASK == "regression":
        return np.asarray(estimator.predict(matrix)).reshape(len(matrix))
    table = np.asarray(estimator.predict_proba(matrix))
    return table[:, 1] if problem.TASK == "binary" else table


def check_parity(expected: NDArray[Any], exported: NDArray[Any], tolerance: float) -> float:
    """The largest difference between the estimator's and the exported model's scores, both of the same shape.

    Raises:
        UserError: it is above the tolerance, in the unit of the scores.
    """
    difference = float(np.abs(np.asarray(expected, np.float64) - exported).max())
    if not difference <= tolerance:
        raise UserError(
            f"the exported model differs from the estimator by {difference:.6g} {problem.UNIT}, more than "
            f"export.tolerance = {tolerance:g} in params.toml: do not serve it"
        )
    return difference
