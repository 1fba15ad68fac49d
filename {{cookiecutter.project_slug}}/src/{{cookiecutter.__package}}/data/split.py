"""Split the rows into training and validation rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import problem
from ..base.errors import UserError
from .clean import Dataset


def split(dataset: Dataset, validation_share: float, seed: int = 42) -> tuple[Dataset, Dataset]:
    """Training rows and about `validation_share` of the rows for validation; no row is in both.

    If rows have a time, the newest are for validation. Otherwise a hash of the row and `seed` decides, so that a row
    stays on its side when rows are added: a row that one model was trained on never validates the next. Equal rows
    are on the same side.

    Raises:
        UserError: one of the two would be empty.
    """
    if problem.TIME:
        limit = round(len(dataset) * (1 - validation_share))
        older, newest = dataset.take(slice(limit)), dataset.take(slice(limit, None))
    else:
        chosen = drawn(dataset, validation_share, seed)
        older, newest = dataset.take(np.flatnonzero(~chosen)), dataset.take(np.flatnonzero(chosen))
    if not len(older) or not len(newest):
        raise UserError(f"{dataset.name}: {len(dataset)} usable rows are too few to train and to validate")
    return older, newest


def drawn(dataset: Dataset, share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are among a `share` of them that a hash of the row and `seed` chooses, shape (n,)."""
    return dataset.hashes(seed) / 2.0**64 < share
