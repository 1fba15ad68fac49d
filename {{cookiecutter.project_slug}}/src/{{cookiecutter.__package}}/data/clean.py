"""Select the rows that can be used for training; drop all others and count them by the rule they break."""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import problem
from ..base.errors import UserError
from ..base.fields import Columns
from . import schema

TELLING = 0.999
"""Above this, a feature tells the target: area under the ROC curve, or correlation."""

MANY = 20_000
"""The number of rows on which features are checked together."""


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, oldest first if they have a time: the record's fields, the target, the row number in the source, each (n,)."""

    name: str
    columns: Columns
    target: NDArray[np.float64]
    rows_read: int
    dropped: dict[str, int]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def rows(self) -> int:
        """The number of rows that it describes: its own."""
        return len(self)

    @property
    def span(self) -> tuple[str, str]:
        """The first and the last time, ISO 8601; empty if the problem has no time."""
        if not problem.TIME:
            return "", ""
        times = self.columns[problem.TIME]
        return str(times[0].astype("datetime64[s]")), str(times[-1].astype("datetime64[s]"))

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash that is the same for the same rows, whatever file, format, order or time resolution they came in."""
        return f"{self.digest:016x}"

    @functools.cached_property
    def digest(self) -> int:
        """The sum of the rows' hashes, modulo 2**64: that of all rows is the sum of those of any parts of them."""
        return int(self.hashes(seed=0).sum(dtype=np.uint64))

    def hashes(self, seed: int) -> NDArray[np.uint64]:
        """A hash of each row, shape (n,), the same for equal rows; another `seed` gives others."""
        import pandas as pd  # a service does not have it

        rows = pd.DataFrame({**dict(sorted(self.columns.items())), "": self.target})
        # The hash_key of pandas changes the hashes of text only.
        return pd.util.hash_array(pd.util.hash_pandas_object(rows, index=False).to_numpy() + np.uint64(seed % 2**64))

    def take(self, rows: slice | NDArray[np.int64]) -> Dataset:
        """Some of the rows, as a new data set."""
        columns = {name: each[rows] for name, each in self.columns.items()}
        return Dataset(self.name, columns, self.target[rows], self.rows_read, self.dropped, self.places[rows])


def clean(name: str, raw: Columns) -> Dataset:
    """Drop every row that the service would refuse or that has no valid target, and count them by rule.

    Raises:
        UserError: no row is left.
    """
    cleaned = usable(name, raw)
    if not len(cleaned):
        said = ", ".join(f"{count:,} {rule}" for rule, count in cleaned.dropped.items())
        raise UserError(f"{name}: no row is left of {cleaned.rows_read:,} ({said or 'it is empty'})")
    return cleaned


def usable(name: str, raw: Columns) -> Dataset:
    """What `clean` returns, which may be no row at all."""
    target = raw[schema.TRUE] if schema.TRUE in raw else problem.target(problem.prepare(raw))
    raw = prepared(raw)
    rules = [*schema.violations(raw, needed=[problem.TIME]), (f"{problem.TARGET} missing", np.isnan(target))]
    rules += [(rule, broken(target)) for rule, broken in problem.TARGET_RULES.items()]
    keep = np.ones(len(target), bool)
    dropped: dict[str, int] = {}
    for rule, broken in rules:
        if count := int((keep & broken).sum()):
            dropped[rule] = count
        keep &= ~broken
    order = np.flatnonzero(keep)
    if problem.TIME:
        order = order[np.argsort(raw[problem.TIME][keep], kind="stable")]
    columns = {field.name: raw[field.name][order].astype(field.dtype, copy=False) for field in schema.FIELDS}
    cleaned = Dataset(name, columns, target[order], len(target), dropped, order)
    if not schema.PLAIN:
        reasons = list(schema.refusals(columns))
        dropped |= collections.Counter(filter(None, reasons))
        cleaned = cleaned.take(np.flatnonzero([not reason for reason in reasons]))
    return cleaned


def prepared(raw: Columns) -> Columns:
    """The columns of a file under the names of `Record`; a file of records already has them."""
    return raw if schema.TRUE in raw else problem.prepare(raw)


def leaks(dataset: Dataset) -> list[str]:
    """Features that predict the target almost perfectly, alone or together: known too late, or the target itself."""
    # scikit-learn is imported only for training.
    from ..metrics import METRICS

    matrix, found = problem.features(dataset.columns).astype(np.float64), []
    if problem.TASK == "multiclass":
        return []
    for name, values in zip(problem.FEATURES, matrix.T, strict=True):
        known = ~np.isnan(values)
        if known.sum() < 2 or np.ptp(values[known]) == 0:
            continue
        if problem.TASK == "binary":
            alone = METRICS["binary"]["roc_auc"].of(dataset.target[known], values[known])
            tells = max(alone, 1 - alone) > TELLING
        else:
            tells = abs(np.corrcoef(values[known], dataset.target[known])[0, 1]) > TELLING
        if tells:
            found.append(name)
    step = max(1, len(matrix) // MANY)
    return found or [problem.FEATURES[place] for place in together(matrix[::step], dataset.target[::step])]


def together(matrix: NDArray[np.float64], target: NDArray[np.float64]) -> list[int]:
    """The indices of those features, shape (n, features), whose weighted sum is almost exactly the target, without any redundant one."""
    known = np.isfinite(matrix)
    means = np.where(known, matrix, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred, moved = np.where(known, matrix - means, 0), target - target.mean()
    chosen = np.flatnonzero(np.ptp(centred, axis=0)).tolist()

    def tells(columns: list[int]) -> bool:
        weights = np.linalg.lstsq(centred[:, columns], moved, rcond=None)[0]
        left = moved - centred[:, columns] @ weights
        return bool(left @ left < (1 - TELLING**2) * (moved @ moved))

    # With few rows, any set of features could.
    if len(target) < 10 * len(chosen) or not tells(chosen):
        return []
    for spare in list(chosen):
        rest = [column for column in chosen if column != spare]
        chosen = rest if tells(rest) else chosen
    return chosen


def describe(dataset: Dataset) -> Iterable[str]:
    """Lines to print: the number of rows, their time span or class shares, and what was dropped and why."""
    first, last = dataset.span
    when = f", {first[:10]} to {last[:10]}" if first else ""
    yield f"{dataset.rows:,} of {dataset.rows_read:,} rows from {dataset.name}{when}"
    if problem.TASK != "regression":
        counted = zip(*np.unique(dataset.target, return_counts=True), strict=True)
        shares = ", ".join(f"{int(each)}: {count / len(dataset):.1%}" for each, count in counted)
        yield f"  {problem.TARGET} by class: {shares}"
    for rule, count in dataset.dropped.items():
        yield f"  dropped {count:,}: {rule}"
