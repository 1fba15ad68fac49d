"""Columns that probably do not belong in a record, and why; the user or the defaults decide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...data.clean import TELLING, together
from .columns import Column

FOLDS_ROWS = 4_000
"""The number of rows on which each column is tested for predicting the target."""

WORDS = 4
"""Text with at least this many words counts as written by a person."""


OFFSET = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})")
"""A time with an offset from UTC; a record's times are local times."""


@dataclass(frozen=True)
class Doubt:
    """Why a column may not belong in the record, and whether it is left out by default."""

    column: Column
    why: str
    out: bool = True


def identifier(columns: list[Column]) -> Column | None:
    """The column that identifies each row, if there is one: it never repeats, and is text without choices or a running number."""
    unique = [
        c for c in columns if c.distinct == c.rows > 1 and c.kind in ("str", "int") and not c.choices and not _abroad(c)
    ]
    named = [c for c in unique if (c.kind == "str" and not _prose(c)) or _running(c) or _says_id(c)]
    return min(named, key=lambda c: (not _says_id(c), c.kind != "str"), default=None)


def doubts(columns: list[Column], target: Column, time: str, classes: bool) -> Iterator[Doubt]:
    """Constant columns, identifiers, free text, times that come later, and columns that predict the target; in this order."""
    clock = next((column for column in columns if column.name == time), None)
    left = []
    for column in columns:
        why = _abroad(column) or _worthless(column) or _later(column, clock) or _telling(column, target, classes)
        if why:
            yield Doubt(column, why)
        elif column.kind == "str" and not column.choices:
            prose = _prose(column) or column.distinct > (column.rows - column.missing) / 2
            yield Doubt(
                column, f"text with {column.distinct:,} values" + (", probably free text" if prose else ""), prose
            )
        else:
            left.append(column)
    numbers = [column for column in left if column.kind in ("int", "float", "bool")]
    if not classes and numbers:
        matrix, known = np.column_stack([column.numbers for column in numbers]), ~np.isnan(target.numbers)
        telling = [numbers[place] for place in together(matrix[known], target.numbers[known])]
        for column in telling:
            others = ", ".join(other.given for other in telling if other is not column)
            yield Doubt(column, f"predicts {target.given}" + (f" together with {others}" if others else ""))


def heavy(target: Column) -> bool:
    """Whether a positive target is skewed, with most values small beside a few, so that its logarithm is easier to learn."""
    values = target.numbers[~np.isnan(target.numbers)]
    if values.min() < 0 or values.max() <= 0:
        return False
    middle, high = np.quantile(values, [0.5, 0.99])
    return bool(high > 20 * max(middle, 1e-9) or (middle > 0 and values.max() > 100 * middle))


def _worthless(column: Column) -> str:
    if not column.distinct:
        return "empty"
    if column.distinct == 1:
        return f"always {str(column.known[0]) if column.known else 'the same'}" + (
            " or missing" if column.missing else ""
        )
    if column.distinct == column.rows > 1 and column.kind in ("str", "int") and not column.choices:
        if column.kind == "str":
            return "" if _prose(column) else "a different value in each row"
        return "a running number" if _running(column) else "an id" if _says_id(column) else ""
    return ""


def _abroad(column: Column) -> str:
    offset = column.kind == "str" and column.known and all(OFFSET.fullmatch(str(each)) for each in column.known[:100])
    return "times with an offset from UTC: convert them to local times to use them" if offset else ""


def _prose(column: Column) -> bool:
    return float(np.mean([len(str(value).split()) for value in column.known])) >= WORDS


def _running(column: Column) -> bool:
    """Whether integers fill the range that they span, or rise from row to row."""
    if column.kind != "int" or column.missing:
        return False
    return bool(column.most - column.least == column.rows - 1 and column.rows > 20)


def _says_id(column: Column) -> bool:
    return {"id", "uuid", "guid", "key"} & set(column.name.split("_")) != set() or column.name.endswith("id")


def _later(column: Column, clock: Column | None) -> str:
    if clock is None or column is clock or column.kind not in ("time", "day"):
        return ""
    after = column.numbers - clock.numbers
    after = after[~np.isnan(after)]
    return (
        f"always after {clock.given}: known only later" if len(after) and after.min() >= 0 and after.max() > 0 else ""
    )


def _telling(column: Column, target: Column, classes: bool) -> str:
    """Whether a small tree on this column alone predicts the target almost exactly, on rows that it was not trained on."""
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    given, wanted = column.numbers, target.numbers
    both = np.flatnonzero(~np.isnan(given) & ~np.isnan(wanted))
    if len(both) < 40 or np.ptp(given[both]) == 0:
        return ""
    rows = both[:: max(1, len(both) // FOLDS_ROWS)]
    said = f"predicts {target.given} alone"
    if not classes and abs(np.corrcoef(_ranks(given[rows]), _ranks(wanted[rows]))[0, 1]) > TELLING:
        return said
    kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
    tree = kind(max_leaf_nodes=64, min_samples_leaf=5, random_state=0)
    shuffled = np.random.default_rng(0).permutation(rows)
    found = cross_val_predict(tree, given[shuffled][:, None], wanted[shuffled], cv=2)
    if classes:
        return said if balanced_accuracy_score(wanted[shuffled], found) > TELLING else ""
    return said if 1 - np.var(found - wanted[shuffled]) / np.var(wanted[shuffled]) > TELLING else ""


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.unique(values, return_inverse=True)[1]
    return np.asarray(places, np.float64)
