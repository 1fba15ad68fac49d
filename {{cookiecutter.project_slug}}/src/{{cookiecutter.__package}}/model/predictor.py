"""The only code that predicts: columns of records in, columns of answers out, for one record or a million."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from .. import estimators, problem
from ..base.errors import first_line
from ..base.fields import Columns
from ..data import schema
from .bundle import Bundle, MismatchError, ModelError

RECORDS = TypeAdapter(list[problem.Record])
AGAIN = "train again, or go back to the code that it was made with"
PREDICTION = "prediction_id"
"""The name of a prediction's id."""


class Predicts(Protocol):
    """The interface of a model for web, batch and streaming; wrappers of a predictor implement it too."""

    @property
    def card(self) -> dict[str, Any]:
        """The model's description of itself."""

    @property
    def additions(self) -> Mapping[str, Any]:
        """What can be requested in addition to an answer, by name; empty unless a wrapper of the model offers something."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """The JSON schema of the fields of an answer besides those of `problem.Answer`, by name."""

    def snapshot(self) -> Predicts:
        """The current predictor, for a caller that uses it twice and must get the same model."""

    def refused(self, count: int) -> None:
        """Count records that were refused, for which there is no prediction."""

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and those of `fields` for n records, each of shape (n,).

        `columns` has the record's fields, and optionally `problem.ID` and `prediction_id`, which identify a record.
        """


class Fixed:
    """The part of `Predicts` that is the same for all models that never change and count nothing."""

    def snapshot(self) -> Self:
        """The predictor itself."""
        return self

    def refused(self, count: int) -> None:
        """Do nothing: refused records are not counted here."""


class Predictor(Fixed):
    """A bundle that runs on onnxruntime, or on scikit-learn if it has no ONNX graph.

    Args:
        bundle: the model; its features must be those that `problem.features` computes.

    Raises:
        ModelError: the model cannot be loaded, or was made for other records or features.
    """

    additions: Mapping[str, Any] = {}
    fields: Mapping[str, Any] = {
        "model_version": {"type": "string", "description": "Registered version or run of the model that answered"}
    }

    def __init__(self, bundle: Bundle) -> None:
        try:
            self._prove(bundle)
        except ModelError:
            raise
        except Exception as error:  # a damaged model may raise anything; onnxruntime's errors share no base class
            what = f"{type(error).__name__}: {first_line(error)[:200]}"
            raise ModelError(f"the model or its card does not hold what it should ({what}): train again") from None

    def _prove(self, bundle: Bundle) -> None:
        """Load the model, and check that it fits this code and gives the same scores as where it was trained."""
        _same_record(bundle.card)
        run = _graph if bundle.file.endswith(".onnx") else _estimator
        self._scores = run(bundle, len(problem.FEATURES))
        self.card = {**bundle.card, "model_version": bundle.version}
        self._version = np.array([bundle.version], object)
        self._decision = bundle.card.get("decision", {})
        try:
            problem.answer(self._shaped(np.zeros((1, self._width()), np.float32)), **self._decision)
        except TypeError as error:
            raise ModelError(f"[decision] of params.toml and problem.answer differ ({error}): train again") from None
        if "golden" in bundle.card:
            self._same_answers(bundle.card["golden"])

    def golden(self) -> dict[str, Any]:
        """Records, their features and their scores: code and machine are checked against them when a model is loaded."""
        records = [record for record in schema.examples() if _valid([record])]
        features = problem.features(schema.columns(_valid(records)))
        held = [[None if np.isnan(value) else value for value in row] for row in features.tolist()]
        return {"records": records, "features": held, "scores": self.of_features(features).tolist()}

    def _same_answers(self, golden: dict[str, Any]) -> None:
        known = np.array(golden["features"], np.float32)
        made = problem.features(schema.columns(_valid(golden["records"])))
        same = (
            np.isclose(made, known, rtol=1e-4, atol=1e-6, equal_nan=True) if made.shape == known.shape else np.zeros(1)
        )
        if not same.all():
            moved = np.array(problem.FEATURES)[~np.broadcast_to(same.all(axis=0), known.shape[1])]
            raise MismatchError(
                f"problem.features makes another {', '.join(moved)} than this model has learned: {AGAIN}"
            )
        if not np.allclose(self.of_features(known), golden["scores"], rtol=1e-3, atol=1e-3):
            raise ModelError(
                "this model answers otherwise than where it was made: install the lock's versions (make setup)"
            )

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The fields of `problem.Answer` and `model_version` for n records, each of shape (n,)."""
        return self.answers(self.scores(columns))

    def answers(self, scores: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """What `predict` returns, computed from n scores."""
        return {**problem.answer(scores, **self._decision), "model_version": self._version.repeat(len(scores))}

    def measured(self, columns: Columns, scores: NDArray[Any] | None = None) -> NDArray[Any]:
        """The input of metrics: the target as it is served, shape (n,), or the probabilities of classes.

        `scores` are those of the same records, if they are already known.
        """
        known = self.scores(columns) if scores is None else scores
        return problem.answer(known, **self._decision)[problem.TARGET] if problem.TASK == "regression" else known

    def scores(self, columns: Columns) -> NDArray[Any]:
        """The model's output, before it becomes an answer.

        Shape (n,) for regression and for the probability of class 1, (n, classes) for those of more classes.
        """
        return self.of_features(problem.features(columns))

    def of_features(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """The scores of n rows of features, shape (n, features); what `scores` returns."""
        return self._shaped(self._scores(matrix) if len(matrix) else np.zeros((0, self._width()), np.float32))

    def _width(self) -> int:
        return int(self.card.get("classes", 2 if problem.TASK == "binary" else 1))

    def _shaped(self, scores: NDArray[Any]) -> NDArray[Any]:
        return scores if problem.TASK == "multiclass" or scores.ndim == 1 else scores[:, -1]


def _same_record(card: dict[str, Any]) -> None:
    """Refuse a model if this code computes other features or expects other records."""
    given, expected = card.get("features"), list(problem.FEATURES)
    if given != expected:
        raise MismatchError(f"this model is for {given}, this code makes {expected}: {AGAIN}")
    was, now = schema.rules(card["record"]), schema.rules(problem.Record.model_json_schema())
    if was != now:
        fields = {**was["properties"], **now["properties"]}
        differ = [name for name in fields if was["properties"].get(name) != now["properties"].get(name)]
        raise MismatchError(
            f"this model is for records with another {', '.join(differ) or 'schema'} than this code's: {AGAIN}"
        )


def _valid(records: list[dict[str, Any]]) -> list[problem.Record]:
    try:
        return RECORDS.validate_json(json.dumps(records))
    except ValidationError:
        return []


Scoring = Callable[[NDArray[np.float32]], NDArray[Any]]


def _graph(bundle: Bundle, features: int) -> Scoring:
    options = onnxruntime.SessionOptions()
    # One is fastest for single records and lets processes share a machine; for many rows, callers use threads.
    options.intra_op_num_threads = 1
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


def _estimator(bundle: Bundle, features: int) -> Scoring:
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
        # The types that the file may contain are set by this code, not by the file.
        known = set(estimators.find(str(bundle.card.get("estimator"))).types)
        found = known & set(io.get_untrusted_types(data=bundle.graph))
        estimator = io.loads(bundle.graph, trusted=sorted(found))
    except (UntrustedTypesFoundException, ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"model.skops cannot be loaded ({' '.join(str(error).split())[:200]}): train again") from None
    return estimator.predict if problem.TASK == "regression" else estimator.predict_proba  # type: ignore[no-any-return]
