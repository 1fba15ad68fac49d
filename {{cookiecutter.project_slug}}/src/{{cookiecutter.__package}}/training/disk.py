"""Training on more rows than fit into memory: XGBoost reads them from the disk, part by part (its external memory).

Of very many rows, each tree sees a random block (stochastic gradient boosting, Friedman 2002), so that memory does not grow with them.
"""

from __future__ import annotations

import contextlib
import math
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

FITTED = 2_000_000
"""A tree is fitted on about this many rows at most: XGBoost keeps target, gradient and place of each of them in memory."""

RUN = 1_000
"""So many neighbouring rows of a part are in the same block."""


class Batches(xgboost.DataIter):
    """Features and target of one of several random blocks of rows, part by part; what XGBoost makes of them goes to files `cache*`.

    Each of `files` has a matrix of shape (n, features + 1), the target last.
    """

    def __init__(self, files: list[Path], cache: Path, block: int, blocks: int) -> None:
        self._files, self._block, self._blocks, self._next = files, block, blocks, 0
        super().__init__(cache_prefix=str(cache))

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the rows of the next part that has some; whether there was one."""
        while self._next < len(self._files):
            held = np.load(self._files[self._next], mmap_mode="r")
            draw = np.random.default_rng(self._next).integers(self._blocks, size=len(held) // RUN + 1)
            rows = held[np.flatnonzero(draw[np.arange(len(held)) // RUN] == self._block)]
            self._next += 1
            if len(rows):
                input_data(data=rows[:, :-1], label=rows[:, -1])
                return True
        return False

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
                files.append(Path(scratch) / f"part-{len(files):05}.npy")
                np.save(files[-1], np.column_stack([problem.features(older.columns), older.target.astype(np.float32)]))

        def fit(features: NDArray[np.float32], target: NDArray[np.float64], settings: params.Params) -> Any:
            with estimators.refusals():
                given = estimator.get_xgb_params()
                if problem.TASK == "multiclass":
                    given |= {"objective": "multi:softprob", "num_class": classes(target)}
                blocks = math.ceil(older.rows / FITTED)
                if blocks > 1:
                    say(f"each tree is fitted on about {older.rows // blocks:,} of them, chosen at random")
                batches = [Batches(files, Path(scratch) / f"cache-{block}", block, blocks) for block in range(blocks)]
                return loaded(estimator, _boosted(estimator, given, batches))

        _, _, older, newest = parts.split(source, settings.data, kept=kept)
        for line in describe(parts.both(older, newest)):
            say(line)
        yield Sides(older, newest, fit, "disk")


def _boosted(estimator: Any, given: dict[str, Any], blocks: list[Batches]) -> Any:
    """The trees of an estimator with these parameters; each block of rows has the same number of them, or one more."""
    booster: Any = None
    first, seed = None, given.get("random_state") or 0
    shares = np.array_split(range(estimator.get_num_boosting_rounds()), len(blocks))
    for number, (block, trees) in enumerate(zip(blocks, shares, strict=True)):
        if booster and not len(trees):
            break
        # Trees of earlier blocks split this block's rows at the right place only if its bins are theirs.
        rows = xgboost.ExtMemQuantileDMatrix(
            block, missing=estimator.missing, max_bin=given["max_bin"] or 256, ref=first
        )
        first = first or rows
        booster = xgboost.train(given | {"random_state": seed + number}, rows, len(trees), xgb_model=booster)
    return booster
