"""The only way to a prediction: columns of records in, columns of answers out, for one record or a million."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .. import estimators, problem
from ..problem import Columns
from .bundle import Bundle, ModelError


class Predicts(Protocol):
    """What web, batch and streaming know of a model; whatever wraps a predictor is one too.

    Attributes:
        card: what the model says of itself.
        additions: what may be asked for with an answer, by its name; nothing, unless something around the model has it.
    """

    card: dict[str, Any]
    additions: Mapping[str, Any]

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and `model_version` for n records, each of shape (n,)."""


class Predictor:
    """A bundle that runs on onnxruntime, or on scikit-learn where it has no ONNX graph.

    Args:
        bundle: the model; its features must be those that `problem.features` makes.
        threads: processor cores for one call. One is fastest for single records and lets processes share a machine.

    Raises:
        ModelError: the model cannot be loaded, or was made for other features.
    """

    additions: Mapping[str, Any] = {}

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        given, expected = bundle.card.get("features"), list(problem.FEATURES)
        if given != expected:
            raise ModelError(f"this model is for {given}, this code makes {expected}: train again")
        run = _graph if bundle.file.endswith(".onnx") else _estimator
        self._scores = run(bundle, len(expected), threads)
        self.card = {**bundle.card, "model_version": bundle.version}
        self._version = np.array([bundle.version], object)
        self._decision = bundle.card.get("decision", {})
        try:
            problem.answer(self._shaped(np.zeros((1, self._width()), np.float32)), **self._decision)
        except TypeError as error:
            raise ModelError(f"[decision] of params.toml and problem.answer differ ({error}): train again") from None

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and `model_version` for n records, each of shape (n,)."""
        scores = self.scores(columns)
        return {**problem.answer(scores, **self._decision), "model_version": self._version.repeat(len(scores))}

    def measured(self, columns: Columns) -> NDArray[Any]:
        """What metrics are taken of: the target as it is served, shape (n,), or the probabilities of classes."""
        return self.predict(columns)[problem.TARGET] if problem.TASK == "regression" else self.scores(columns)

    def scores(self, columns: Columns) -> NDArray[Any]:
        """What the model says, before it becomes an answer.

        Shape (n,) for regression and for the probability of class 1, (n, classes) for those of more classes.
        """
        return self.of_features(problem.features(columns))

    def of_features(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """The scores of n rows of features, shape (n, features); what `scores` gives."""
        return self._shaped(self._scores(matrix) if len(matrix) else np.zeros((0, self._width()), np.float32))

    def _width(self) -> int:
        return int(self.card.get("classes", 2 if problem.TASK == "binary" else 1))

    def _shaped(self, scores: NDArray[Any]) -> NDArray[Any]:
        return scores if problem.TASK == "multiclass" or scores.ndim == 1 else scores[:, -1]


Scoring = Callable[[NDArray[np.float32]], NDArray[Any]]


def _graph(bundle: Bundle, features: int, threads: int) -> Scoring:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(bundle.graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base class
        raise ModelError(f"model.onnx cannot be loaded ({str(error).strip()[:120]}): train again") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].shape[-1:] != [features]:
        raise ModelError(f"model.onnx does not take one matrix of {features} columns: train again")
    name, output = inputs[0].name, [session.get_outputs()[-1].name]
    return lambda matrix: np.asarray(session.run(output, {name: matrix})[0])


def _estimator(bundle: Bundle, features: int, threads: int) -> Scoring:
    try:
        # Only a model without an ONNX graph needs these; most images do not have them.
        from skops import io
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError:
        raise ModelError(
            "this model is a scikit-learn estimator: add scikit-learn and skops to [packages] in Pipfile, or train one "
            "that has an ONNX converter"
        ) from None
    try:
        # What may be in the file is said by this code, not by the file.
        known = set(estimators.find(str(bundle.card.get("estimator"))).types)
        found = known & set(io.get_untrusted_types(data=bundle.graph))
        estimator = io.loads(bundle.graph, trusted=sorted(found))
    except (UntrustedTypesFoundException, ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"model.skops cannot be loaded ({' '.join(str(error).split())[:200]}): train again") from None
    return estimator.predict if problem.TASK == "regression" else estimator.predict_proba  # type: ignore[no-any-return]
