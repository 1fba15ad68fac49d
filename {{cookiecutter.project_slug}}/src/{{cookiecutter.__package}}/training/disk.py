"""Training on more rows than fit into memory: XGBoost reads them from the disk (its external memory).

Of very many rows, the trees are fitted in turn on random blocks (stochastic gradient boosting, Friedman 2002): memory does not grow with them.
"""

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

FITTED = 2_000_000
"""A block has about this many rows: XGBoost keeps target, gradient and place of each of them in memory."""

WIDTH = len(problem.FEATURES) + 1


class Batches(xgboost.DataIter):
    """Rows of a file as XGBoost asks for them: float32, features and then the target. What it makes of them goes to files `<file>-cache*`."""

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, 0
        super().__init__(cache_prefix=f"{file}-cache")

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the next rows; whether there were any."""
        rows = np.fromfile(self._file, np.float32, parts.ROWS * WIDTH, offset=self._at).reshape(-1, WIDTH)
        self._at += rows.nbytes
        if len(rows):
            input_data(data=rows[:, :-1], label=rows[:, -1])
        return bool(len(rows))

    def reset(self) -> None:
        """Begin again."""
        self._at = 0


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
    estimator, draw = unfitted(settings, "disk"), np.random.default_rng(settings.data.seed)
    # XGBoost removes its files, if they are still there, when it is itself removed.
    warnings.filterwarnings("ignore", "(?s).*(External memory cache file|Couldn't remove)", UserWarning)
    cache = params.ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    # Not where temporary files usually are: that may be memory.
    with tempfile.TemporaryDirectory(prefix="training-", dir=cache, ignore_cleanup_errors=True) as scratch:

        def kept(older: Dataset, total: int) -> None:
            blocks = max(1, round(total / FITTED))
            rows = np.column_stack([problem.features(older.columns), older.target.astype(np.float32)])
            dealt = draw.integers(blocks, size=len(rows))
            for number in range(blocks):
                with Path(scratch, f"block-{number:04}").open("ab") as held:
                    held.write(rows[dealt == number].tobytes())

        def fit(features: NDArray[np.float32], target: NDArray[np.float64], settings: params.Params) -> Any:
            with estimators.refusals():
                given = estimator.get_xgb_params()
                if problem.TASK == "multiclass":
                    given |= {"objective": "multi:softprob", "num_class": classes(target)}
                files = sorted(Path(scratch).glob("block-????"))
                if len(files) > 1:
                    say(f"each tree is fitted on about {older.rows // len(files):,} of them, drawn at random")
                return loaded(estimator, _boosted(estimator, given, files))

        _, _, older, newest = parts.split(source, settings.data, kept=kept)
        for line in describe(parts.both(older, newest)):
            say(line)
        yield Sides(older, newest, fit, "disk")


def _boosted(estimator: Any, given: dict[str, Any], files: list[Path]) -> Any:
    """The trees of an estimator with these parameters; of blocks in files each has as many of them, or one more.

    If there are fewer trees than blocks, the last blocks are not used.
    """
    booster: Any = None
    first, seed, rounds = None, int(given.get("random_state") or 0), estimator.get_num_boosting_rounds()
    used = files[: max(1, rounds)]
    for number, (file, trees) in enumerate(zip(used, np.array_split(range(rounds), len(used)), strict=True)):
        # In bins of its own, rows of a later block would pass the trees of earlier ones at other places than they split.
        rows = xgboost.ExtMemQuantileDMatrix(
            Batches(file), missing=estimator.missing, max_bin=given["max_bin"] or 256, ref=first
        )
        first = first or rows
        booster = xgboost.train(given | {"random_state": seed + number}, rows, len(trees), xgb_model=booster)
    return booster
