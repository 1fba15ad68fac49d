"""Training on more rows than fit into memory: XGBoost reads them from the disk, part by part (its external memory)."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from .. import estimators, metrics, problem
from ..base import params
from ..base.errors import UserError
from ..data import parts
from ..data.clean import Dataset, describe
from .train import Say, Sides

FITS = ("xgboost", "xgboost.XGBRegressor", "xgboost.XGBClassifier")
"""The estimators that can be fitted on rows that are not in memory."""


class Batches(xgboost.DataIter):
    """Features and targets of parts in files, as XGBoost asks for them; what it makes of them goes to files `cache*`."""

    def __init__(self, files: list[Path], cache: Path) -> None:
        self._files, self._next = files, 0
        super().__init__(cache_prefix=str(cache))

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the next part; whether there was one."""
        if self._next == len(self._files):
            return False
        with np.load(self._files[self._next]) as held:
            input_data(data=held["features"], label=held["target"])
        self._next += 1
        return True

    def reset(self) -> None:
        """Begin again."""
        self._next = 0


def unfitted(settings: params.Params, engine: str) -> Any:
    """The estimator of params.toml.

    Raises:
        UserError: it can only be fitted in memory, or one of its parameters is wrong.
    """
    name, given = settings.model.estimator, settings.model.parameters
    estimator = estimators.unfitted(settings)
    if only := [each for each in ("early_stopping_rounds", "booster") if given.get(each) not in (None, "gbtree")]:
        raise UserError(f"params.toml: ENGINE={engine} does not know {only[0]} = {given[only[0]]!r}: leave it out")
    if name not in FITS:
        known = ", ".join(FITS)
        raise UserError(f"params.toml: ENGINE={engine} cannot fit {name}; it can {known}; or leave out ENGINE")
    return estimator


def classes(target: NDArray[np.float64]) -> int:
    """The number of classes of a target that has a row of each.

    Raises:
        UserError: there is none of some class.
    """
    if missing := sorted(set(range(metrics.classes(target))) - set(target.astype(int))):
        raise UserError(f"no row to train on has class {missing[0]}: number the classes without a gap")
    return metrics.classes(target)


def loaded(estimator: Any, booster: xgboost.Booster) -> Any:
    """The estimator with trees that were fitted elsewhere."""
    booster.feature_names = None
    estimator.load_model(booster.save_raw("ubj"))
    return estimator


@contextlib.contextmanager
def sides(settings: params.Params, source: str, say: Say) -> Iterator[Sides]:
    """The rows of a file or folder, in files of this project's `.cache` until the training has ended.

    Raises:
        UserError: they cannot be read, or the estimator can only be fitted in memory.
    """
    estimator, files = unfitted(settings, "disk"), list[Path]()
    # XGBoost removes its files, if they are still there, when it is itself removed.
    warnings.filterwarnings("ignore", "(?s).*(External memory cache file|Couldn't remove)", UserWarning)
    cache = params.ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    # Not where temporary files usually are: that may be memory.
    with tempfile.TemporaryDirectory(prefix="training-", dir=cache, ignore_cleanup_errors=True) as scratch:

        def kept(older: Dataset) -> None:
            if len(older):
                files.append(Path(scratch) / f"part-{len(files):05}.npz")
                np.savez(files[-1], features=problem.features(older.columns), target=older.target.astype(np.float32))

        def fit(features: NDArray[np.float32], target: NDArray[np.float64], settings: params.Params) -> Any:
            with estimators.refusals():
                given = estimator.get_xgb_params()
                if problem.TASK == "multiclass":
                    given |= {"objective": "multi:softprob", "num_class": classes(target)}
                batches = Batches(files, Path(scratch) / "cache")
                bins = given["max_bin"] or 256
                rows = xgboost.ExtMemQuantileDMatrix(batches, missing=estimator.missing, max_bin=bins)
                return loaded(estimator, xgboost.train(given, rows, estimator.get_num_boosting_rounds()))

        _, _, older, newest = parts.split(source, settings.data, kept=kept)
        for line in describe(parts.both(older, newest)):
            say(line)
        yield Sides(older, newest, fit, "disk")
