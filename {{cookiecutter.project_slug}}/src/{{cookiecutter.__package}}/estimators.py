"""The estimators that a model can be made with: an entry of `ESTIMATORS`, or the import path of any installed one."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import problem
from .base import params
from .base.errors import UserError, first_line, near

OPSET = {"": 15, "ai.onnx.ml": 3}
"""Old enough for every onnxruntime of recent years, new enough for all converters."""


def _skl2onnx(estimator: Any) -> Any:
    from skl2onnx import to_onnx

    example = np.zeros((1, len(problem.FEATURES)), np.float32)
    options = {} if problem.TASK == "regression" else {"zipmap": False}
    return to_onnx(estimator, example, target_opset=OPSET, options=options)


def _onnxmltools(estimator: Any) -> Any:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    convert = getattr(onnxmltools, f"convert_{type(estimator).__module__.partition('.')[0]}")
    shape = [("features", FloatTensorType([None, len(problem.FEATURES)]))]
    options = {} if problem.TASK == "regression" or convert.__name__ == "convert_xgboost" else {"zipmap": False}
    graph = convert(estimator, initial_types=shape, target_opset=OPSET[""], **options)
    if hasattr(estimator, "booster_"):
        _floor(graph, estimator.booster_.trees_to_dataframe().dropna(subset="threshold"))
    return graph


def _floor(graph: Any, splits: Any) -> None:
    """Round LightGBM's thresholds down to float32: rounded up, a threshold could equal a value that should be above it."""
    features = splits["split_feature"].str.rpartition("_")[2].astype(int)
    thresholds = zip(features, splits["threshold"].to_numpy(), strict=True)
    exact = {(feature, np.float32(at)): at for feature, at in thresholds}
    for node in graph.graph.node:
        given = {each.name: each for each in node.attribute}
        if "nodes_values" in given:
            places = zip(given["nodes_featureids"].ints, map(np.float32, given["nodes_values"].floats), strict=True)
            floored = [np.nextafter(at, np.float32(-np.inf)) if exact.get((i, at), at) < at else at for i, at in places]
            given["nodes_values"].floats[:] = floored


@dataclass(frozen=True)
class Estimator:
    """How one kind of estimator is built, tuned and exported.

    Attributes:
        build: returns an unfitted estimator with scikit-learn's interface, given its parameters.
        ranges: what `make tune` searches: `[low, high]`, `[low, high, "log"]` or a list of choices for each parameter.
        to_onnx: converts the fitted estimator to an ONNX graph from one float32 matrix (n, features) to scores.
        types: the types that its skops file may contain, besides those that skops knows. The service loads them:
            list exact types that hold numbers, never a module.
    """

    build: Callable[[Mapping[str, Any]], Any]
    ranges: Mapping[str, list[Any]] = field(default_factory=dict)
    to_onnx: Callable[[Any], Any] = _skl2onnx
    types: tuple[str, ...] = ()


def _xgboost(parameters: Mapping[str, Any]) -> Any:
    # The training libraries are imported only for training.
    try:
        import xgboost
    except Exception as error:  # its own, where a library of the system is missing
        raise UserError(f"xgboost cannot be loaded: {first_line(error)} (macOS: brew install libomp)") from None

    return (xgboost.XGBRegressor if problem.TASK == "regression" else xgboost.XGBClassifier)(**parameters)


def _linear(parameters: Mapping[str, Any]) -> Any:
    """Ridge, or logistic regression with `C` as the inverse of Ridge's `alpha`: one setting for both."""
    from sklearn.linear_model import LogisticRegression, Ridge

    given = dict(parameters)
    if problem.TASK == "regression":
        return one_hot(Ridge(**given))
    alpha = given.pop("alpha", 1.0)
    return one_hot(LogisticRegression(**{"max_iter": 1_000, "C": 1 / alpha, **given}))


ESTIMATORS: dict[str, Estimator] = {
    "xgboost": Estimator(
        _xgboost,
        {
            "n_estimators": [40, 400, "log"],
            "max_depth": [3, 10],
            "learning_rate": [0.02, 0.4, "log"],
            "subsample": [0.5, 1.0],
            "min_child_weight": [1, 30, "log"],
        },
        _onnxmltools,
    ),
    "linear": Estimator(_linear, {"alpha": [0.001, 1000.0, "log"]}),
}

TREES = ("sklearn.ensemble.", "sklearn.tree.", "lightgbm.", "xgboost.", "catboost.")
"""Import paths of estimators that accept category numbers as they are; others get one-hot columns."""

BOOSTERS = ("lightgbm.", "xgboost.", "catboost.")
"""Import paths of estimators that onnxmltools converts."""

SKLEARN_TYPES = (
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Types that scikit-learn's estimators consist of and that skops does not know."""


def find(name: str) -> Estimator:
    """The entry of `ESTIMATORS`, or a new one for the estimator at an import path.

    Raises:
        UserError: the name is unknown.
    """
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    if "." not in name:
        known = f"; choose {', '.join(ESTIMATORS)}, or an import path such as sklearn.ensemble.RandomForestRegressor"
        raise UserError(f"params.toml: estimator {name!r} is unknown{near(name, ESTIMATORS, known)}")
    to_onnx = _onnxmltools if name.startswith(BOOSTERS) else _skl2onnx
    return Estimator(functools.partial(_imported, name), to_onnx=to_onnx, types=SKLEARN_TYPES)


def known(name: str) -> set[str]:
    """The names of the parameters of an estimator."""
    made = find(name)
    plain = made.build({})
    # The estimator is the last step of a pipeline.
    return {*getattr(plain, "steps", [("", plain)])[-1][1].get_params(), *made.ranges}


def build(name: str, parameters: Mapping[str, Any], seed: int) -> Any:
    """An unfitted estimator for the problem's task; `seed` is its `random_state` if it has one.

    Raises:
        ValueError: there is no such estimator, or it is for another task.
        TypeError: it does not know a parameter.
    """
    of = known(name)
    for unknown in sorted(set(parameters) - of):
        raise TypeError(f"{name} has no parameter {unknown!r}{near(unknown, of)}")
    return find(name).build({**({"random_state": seed} if "random_state" in of else {}), **parameters})


def fit(features: NDArray[np.float32], target: NDArray[np.float64], settings: params.Params) -> Any:
    """The estimator that `params.toml` names, fitted on n rows.

    Raises:
        UserError: there is no such estimator, or it refuses one of its parameters.
    """
    with refusals():
        return unfitted(settings).fit(features, target)


def unfitted(settings: params.Params) -> Any:
    """The estimator that `params.toml` names.

    Raises:
        UserError: as `fit`.
    """
    model = settings.model
    with refusals():
        for table in model.tables:
            find(table)
        return build(model.estimator, model.parameters, settings.data.seed)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What an estimator says about its parameters becomes a UserError."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise UserError(
            f"params.toml [model]: {' '.join(str(error).partition('Stack trace')[0].split())[:300]}"
        ) from None


def _imported(name: str, parameters: Mapping[str, Any]) -> Any:
    """An estimator of the class at an import path."""
    from sklearn.base import BaseEstimator, is_classifier, is_regressor

    path, _, short = name.rpartition(".")
    try:
        module = importlib.import_module(path)
    except ImportError:
        package = path.partition(".")[0]
        raise ValueError(
            f"estimator {name!r}: there is no module {path}; if it is not installed, make add PACKAGE={package}"
        ) from None
    kinds = dict(inspect.getmembers(module, lambda each: inspect.isclass(each) and issubclass(each, BaseEstimator)))
    if short not in kinds:
        raise ValueError(f"estimator {name!r}: {path} has no estimator {short}{near(short, kinds)}")
    fits = is_regressor if problem.TASK == "regression" else is_classifier
    estimator = kinds[short](**parameters)
    if not fits(estimator):
        raise ValueError(f"estimator {name!r} is not for {problem.TASK}")
    return estimator if name.startswith(TREES) else one_hot(estimator)


def one_hot(estimator: Any) -> Any:
    """The estimator after one-hot encoding, with all other features imputed and scaled."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categories = [problem.FEATURES.index(name) for name in problem.CATEGORIES]
    others = [i for i in range(len(problem.FEATURES)) if i not in categories]
    parts = [
        (OneHotEncoder(handle_unknown="ignore"), categories),
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), others),
    ]
    return make_pipeline(make_column_transformer(*[part for part in parts if part[1]]), estimator)
