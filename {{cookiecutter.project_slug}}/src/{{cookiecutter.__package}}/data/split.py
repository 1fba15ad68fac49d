"""Split rows: those to train on, and those to validate with."""

from __future__ import annotations

import numpy as np

from .. import problem
from ..base.errors import UserError
from .clean import Dataset


def split(dataset: Dataset, validation_share: float, seed: int = 42) -> tuple[Dataset, Dataset]:
    """Rows to train on and `validation_share` of them to validate with; none is in both.

    Where rows have a time, the newest are for validation. Otherwise chance decides, by `seed`, and each class gives the
    same share.

    Raises:
        UserError: one of the two would be empty.
    """
    rows = np.arange(len(dataset))
    if problem.TIME:
        chosen = rows >= round(len(dataset) * (1 - validation_share))
    else:
        rng = np.random.default_rng(seed)
        groups = dataset.target if problem.TASK != "regression" else np.zeros(len(dataset))
        chosen = np.zeros(len(dataset), bool)
        for group in np.unique(groups):
            members = rng.permutation(rows[groups == group])
            chosen[members[: round(len(members) * validation_share)]] = True
    if not chosen.any() or chosen.all():
        raise UserError(f"{dataset.name}: {len(dataset)} usable rows are too few to train and to validate")
    return dataset.take(rows[~chosen]), dataset.take(rows[chosen])
