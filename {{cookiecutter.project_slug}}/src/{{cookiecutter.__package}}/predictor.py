"""The only way to a prediction: columns of records in, columns of answers out, for one record or a million."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from . import problem
from .package import ModelError, Package
from .problem import Columns


class Predicts(Protocol):
    """What the doors know of a model; whatever wraps a predictor is one too."""

    card: dict[str, Any]

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and `model_version` for n records, each of shape (n,)."""


class Predictor:
    """A packaged model that runs on onnxruntime.

    Args:
        package: the model; its features must be those that `problem.features` makes.
        threads: processor cores for one call. One is fastest for single records and lets processes share a machine.

    Raises:
        ModelError: the graph cannot be loaded, or was made for other features.
    """

    def __init__(self, package: Package, threads: int = 1) -> None:
        expected = list(problem.FEATURES)
        if package.card.get("features") != expected:
            raise ModelError(
                f"this model is for {package.card.get('features')}, this code makes {expected}: train again"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(package.graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors share no base class
            raise ModelError(f"model.onnx cannot be loaded ({str(error).strip()[:120]}): train again") from None
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].shape[-1:] != [len(expected)]:
            raise ModelError(f"model.onnx does not take one matrix of {len(expected)} columns: train again")
        self._input = inputs[0].name
        self._output = [self._session.get_outputs()[-1].name]
        self.card = {**package.card, "model_version": package.version}
        self._version = np.array([package.version], object)

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and `model_version` for n records, each of shape (n,)."""
        matrix = problem.features(columns)
        if not len(matrix):
            return {**problem.answer(np.empty(0, np.float32)), "model_version": self._version[:0]}
        scores = self._session.run(self._output, {self._input: matrix})[0]
        return {**problem.answer(scores.reshape(len(matrix))), "model_version": self._version.repeat(len(matrix))}
