"""Keep the rows that can be learned from; drop every other one and count it under the rule that it breaks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import problem
from ..base.errors import UserError
from ..problem import Columns
from . import schema

TELLING = 0.999
"""How well one feature may order the target by itself: as area under the ROC curve, or as correlation."""


@dataclass(frozen=True)
class Dataset:
    """Rows to learn from, oldest first where they have a time: the record's fields and the target, each of shape (n,)."""

    name: str
    columns: Columns
    target: NDArray[np.float64]
    rows_read: int
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def span(self) -> tuple[str, str]:
        """The first and the last time, ISO 8601; nothing where the problem has no time."""
        if not problem.TIME:
            return "", ""
        times = self.columns[problem.TIME]
        return str(times[0].astype("datetime64[s]")), str(times[-1].astype("datetime64[s]"))

    @property
    def fingerprint(self) -> str:
        """The same for the same rows, whatever file, format or time resolution they came in."""
        digest = hashlib.sha256()
        for name, values in [*sorted(self.columns.items()), (problem.TARGET, self.target)]:
            digest.update(name.encode())
            digest.update(values.tobytes() if values.dtype != object else "\0".join(map(str, values)).encode())
        return digest.hexdigest()[:16]

    def take(self, rows: slice | NDArray[np.int64]) -> Dataset:
        """Some of the rows, as a data set of their own."""
        return replace(
            self, columns={name: each[rows] for name, each in self.columns.items()}, target=self.target[rows]
        )


def clean(name: str, raw: Columns) -> Dataset:
    """Leave out every row that the service would refuse or that has no sensible target, and count them by rule.

    Raises:
        UserError: no row is left.
    """
    raw = problem.prepare(raw)
    target = problem.target(raw)
    rules = [*schema.violations(raw, needed=[problem.TIME]), (f"{problem.TARGET} missing", np.isnan(target))]
    rules += [(rule, broken(target)) for rule, broken in problem.TARGET_RULES.items()]
    keep = np.ones(len(target), bool)
    dropped: dict[str, int] = {}
    for rule, broken in rules:
        count = int((keep & broken).sum())
        if count:
            dropped[rule] = count
        keep &= ~broken
    if not keep.any():
        reasons = ", ".join(f"{count:,} {rule}" for rule, count in dropped.items())
        raise UserError(f"{name}: no row is left of {len(target):,} ({reasons or 'it is empty'})")
    order = np.flatnonzero(keep)
    if problem.TIME:
        order = order[np.argsort(raw[problem.TIME][keep], kind="stable")]
    columns = {field.name: raw[field.name][order].astype(field.dtype) for field in schema.FIELDS}
    return Dataset(name, columns, target[order], len(target), dropped)


def leaks(dataset: Dataset) -> list[str]:
    """Features that by themselves order the target all but perfectly: they are known too late, or are the target."""
    # Only training pays for scikit-learn.
    from ..metrics import METRICS

    matrix, found = problem.features(dataset.columns), []
    for name, values in zip(problem.FEATURES, matrix.T.astype(np.float64), strict=True):
        known = ~np.isnan(values)
        if problem.TASK == "multiclass" or known.sum() < 2 or np.ptp(values[known]) == 0:
            continue
        if problem.TASK == "binary":
            alone = METRICS["binary"]["roc_auc"].of(dataset.target[known], values[known])
            tells = max(alone, 1 - alone) > TELLING
        else:
            tells = abs(np.corrcoef(values[known], dataset.target[known])[0, 1]) > TELLING
        if tells:
            found.append(name)
    return found


def describe(dataset: Dataset) -> Iterable[str]:
    """Lines for a person: how many rows there are, from when to when or of which class, and what was dropped and why."""
    first, last = dataset.span
    when = f", {first[:10]} to {last[:10]}" if first else ""
    yield f"{len(dataset):,} of {dataset.rows_read:,} rows from {dataset.name}{when}"
    if problem.TASK != "regression":
        counted = zip(*np.unique(dataset.target, return_counts=True), strict=True)
        shares = ", ".join(f"{int(each)}: {count / len(dataset):.1%}" for each, count in counted)
        yield f"  {problem.TARGET} by class: {shares}"
    for rule, count in dataset.dropped.items():
        yield f"  dropped {count:,}: {rule}"
