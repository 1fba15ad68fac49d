"""Training on Spark, if one machine is too small: executors read, clean and split parts, and XGBoost fits on all of them."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import estimators, problem
from ..base import params, spark
from ..data import parts
from ..data.clean import describe
from ..data.parts import Part
from .disk import classes, loaded, unfitted
from .train import Say, Sides

LABEL = "target"
COLUMNS = [f"f{number}" for number in range(len(problem.FEATURES))]
"""The names of features that converters to ONNX know."""

NOT_HERE = ("n_jobs", "nthread", "enable_categorical")
"""Parameters of an estimator that Spark sets itself, or that its estimators do not have."""


@contextlib.contextmanager
def sides(settings: params.Params, source: str, say: Say) -> Iterator[Sides]:
    """The rows of a file or folder, which executors read; they must see it under the same path as this process.

    Raises:
        UserError: they cannot be read, Spark fails, or it cannot fit the estimator.
    """
    estimator = unfitted(settings, "spark")
    with spark.session() as session:
        context = session.sparkContext

        def each(work: Callable[[Part], Any], listed: Sequence[Part]) -> Iterable[Any]:
            return context.parallelize(listed, len(listed)).map(work).collect() if listed else []

        listed, cut, older, newest = parts.split(source, settings.data, each)

        def fit(features: NDArray[np.float32], target: NDArray[np.float64], settings: params.Params) -> Any:
            from xgboost import spark as boosted  # it fails to import without Spark, with a longer message than ours

            given = {name: value for name, value in settings.model.parameters.items() if name not in NOT_HERE}
            given = {"random_state": settings.data.seed, "verbose": False, "verbosity": 0, **given}
            logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
            kind = boosted.SparkXGBRegressor if problem.TASK == "regression" else boosted.SparkXGBClassifier
            if problem.TASK == "multiclass":
                classes(target)
            with estimators.refusals():
                wanted = kind(features_col=COLUMNS, label_col=LABEL, num_workers=context.defaultParallelism, **given)
                return loaded(estimator, wanted.fit(rows).get_booster())

        names = [*COLUMNS, LABEL]
        work = functools.partial(parts.matrices, listed=listed, cut=cut, names=names)
        numbers = session.range(0, len(listed), 1, len(listed))
        rows = numbers.mapInArrow(work, ", ".join(f"{name} float" for name in names))
        for line in describe(parts.both(older, newest)):
            say(line)
        yield Sides(older, newest, fit, "spark")
