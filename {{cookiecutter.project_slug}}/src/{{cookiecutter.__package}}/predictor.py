"""The only way to a prediction: columns of records in, columns of answers out, for one record or a million."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from . import problem
from .explain import Explained, Explainer
from .package import ModelError, Package
from .problem import Columns


class Predicts(Protocol):
    """What the doors know of a model; whatever wraps a predictor is one too."""

    card: dict[str, Any]

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and `model_version` for n records, each of shape (n,)."""

    def explain(self, columns: Columns) -> Explained:
        """The base value, shape (n,), and what each feature adds to it, (n, features): together the score."""


class Predictor:
    """A packaged model that runs on onnxruntime, or on scikit-learn where it has no ONNX graph.

    Args:
        package: the model; its features must be those that `problem.features` makes.
        threads: processor cores for one call. One is fastest for single records and lets processes share a machine.

    Raises:
        ModelError: the model cannot be loaded, or was made for other features.
    """

    def __init__(self, package: Package, threads: int = 1) -> None:
        expected = list(problem.FEATURES)
        if package.card.get("features") != expected:
            raise ModelError(
                f"this model is for {package.card.get('features')}, this code makes {expected}: train again"
            )
        run = _graph if package.file.endswith(".onnx") else _estimator
        self._scores = run(package, len(expected), threads)
        self.card = {**package.card, "model_version": package.version}
        self._package = package
        self._version = np.array([package.version], object)
        self._decision = package.card.get("decision", {})
        try:
            problem.answer(self._shaped(np.zeros((1, self._width()), np.float32)), **self._decision)
        except TypeError as error:
            raise ModelError(
                f"[decision] of params.toml does not fit problem.answer ({error}): change one of them, then train again"
            ) from None

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and `model_version` for n records, each of shape (n,)."""
        scores = self.scores(columns)
        return {**problem.answer(scores, **self._decision), "model_version": self._version.repeat(len(scores))}

    def explain(self, columns: Columns) -> Explained:
        """The base value of n records, shape (n,), and what each feature adds to it, shape (n, features).

        Together they are the score before it becomes an answer, on the scale that the card's `explanation` names.

        Raises:
            ModelError: the model was packaged without what explanations need.
        """
        return self._explainer(problem.features(columns))

    @functools.cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self._package, self.of_features)

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


TRUSTED = ("sklearn.", "numpy.", "scipy.", "xgboost.")
Scoring = Callable[[NDArray[np.float32]], NDArray[Any]]


def _graph(package: Package, features: int, threads: int) -> Scoring:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(package.graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base class
        raise ModelError(f"model.onnx cannot be loaded ({str(error).strip()[:120]}): train again") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].shape[-1:] != [features]:
        raise ModelError(f"model.onnx does not take one matrix of {features} columns: train again")
    name, output = inputs[0].name, [session.get_outputs()[-1].name]
    return lambda matrix: np.asarray(session.run(output, {name: matrix})[0])


def _estimator(package: Package, features: int, threads: int) -> Scoring:
    try:
        # Only a model without an ONNX graph needs these; most images do not have them.
        from skops import io
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError:
        raise ModelError(
            "this model is a scikit-learn estimator: add scikit-learn and skops to [packages] in Pipfile, or train one "
            "that has an ONNX converter"
        ) from None
    # What the card trusts counts only where it belongs to the libraries that models are made with.
    trusted = [name for name in package.card.get("trusted_types", []) if name.startswith(TRUSTED)]
    try:
        estimator = io.loads(package.graph, trusted=trusted)
    except (UntrustedTypesFoundException, ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"model.skops cannot be loaded ({str(error).strip()[:160]}): train again") from None
    return estimator.predict if problem.TASK == "regression" else estimator.predict_proba  # type: ignore[no-any-return]
