"""Estimators by name: `linear`, `xgboost`, or any of scikit-learn's by its import path."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from . import problem

NAMES = ("linear", "xgboost")
SPACES: dict[str, dict[str, list[Any]]] = {
    "xgboost": {
        "n_estimators": [40, 400, "log"],
        "max_depth": [3, 10],
        "learning_rate": [0.02, 0.4, "log"],
        "subsample": [0.5, 1.0],
        "min_child_weight": [1, 30, "log"],
    },
    "linear": {"alpha": [0.001, 1000.0, "log"]},
}
"""Where `make tune` looks for parameters, unless `[tune.space]` of params.toml says otherwise."""

TREES = ("sklearn.ensemble", "sklearn.tree")
"""Modules whose estimators take the numbers of categories as they are; others get a column a category."""


def build(name: str, settings: Mapping[str, Any], seed: int) -> Any:
    """An unfitted estimator for the problem's task, with scikit-learn's interface.

    Raises:
        ValueError: there is no such estimator, or it is for another task.
        TypeError: a parameter that it does not know.
    """
    if name == "xgboost":
        # Only training pays for the training libraries.
        import xgboost

        kind = xgboost.XGBRegressor if problem.TASK == "regression" else xgboost.XGBClassifier
        return _made(kind, settings, seed, name)
    if name == "linear":
        from sklearn.linear_model import LogisticRegression, Ridge

        if problem.TASK == "regression":
            return _encoded(_made(Ridge, settings, seed, name))
        return _encoded(_made(LogisticRegression, {"max_iter": 1_000, **_as_c(settings)}, seed, name))
    kind = _found(name)
    estimator = _made(kind, settings, seed, name)
    return estimator if name.startswith(TREES) else _encoded(estimator)


def _as_c(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Ridge's `alpha` as logistic regression's `C`, its inverse: one setting for both kinds of line."""
    given = dict(settings)
    if "alpha" in given:
        given["C"] = 1 / given.pop("alpha")
    return given


def _found(name: str) -> Any:
    path, _, short = name.rpartition(".")
    if not path.startswith("sklearn."):
        near = difflib.get_close_matches(name, NAMES, 1)
        known = f"choose {' or '.join(NAMES)}, or an import path such as sklearn.ensemble.RandomForestRegressor"
        raise ValueError(f"estimator {name!r} is unknown; " + (f"did you mean {near[0]}?" if near else known))
    from sklearn.base import BaseEstimator, is_classifier, is_regressor

    try:
        module = importlib.import_module(path)
    except ImportError:
        raise ValueError(f"estimator {name!r}: there is no module {path}") from None
    kinds = {
        each: kind for each, kind in inspect.getmembers(module, inspect.isclass) if issubclass(kind, BaseEstimator)
    }
    if short not in kinds:
        near = difflib.get_close_matches(short, kinds, 1)
        raise ValueError(
            f"estimator {name!r}: {path} has no {short}" + (f"; did you mean {path}.{near[0]}?" if near else "")
        )
    fits = is_regressor if problem.TASK == "regression" else is_classifier
    if not fits(kinds[short]()):
        raise ValueError(f"estimator {name!r} is not for {problem.TASK}")
    return kinds[short]


def _made(kind: Any, settings: Mapping[str, Any], seed: int, name: str) -> Any:
    known = kind().get_params()
    for unknown in sorted(set(settings) - set(known)):
        near = difflib.get_close_matches(unknown, [*known, "alpha"] if name == "linear" else known, 1)
        raise TypeError(f"{name} has no parameter {unknown!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return kind(**({"random_state": seed} if "random_state" in known else {}), **settings)


def _encoded(estimator: Any) -> Any:
    """An estimator that sees a column for each category, and other features filled and scaled."""
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
