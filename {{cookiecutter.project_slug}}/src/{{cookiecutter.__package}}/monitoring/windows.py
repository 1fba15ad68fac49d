"""Windows of the prediction log: counts and figures of a period, computed as the log is read, in constant memory."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import metrics, problem
from ..base.errors import UserError
from ..base.fields import Columns
from ..data import drift, schema
from ..data.drift import Counts
from ..model import conformal
from . import logged, quality, truth

ROWS = 20_000
"""The number of predictions processed together."""

SAMPLE = 20_000
"""The maximum number of pairs of prediction and truth stored per window, chosen at random (Vitter 1985, algorithm R)."""

EDGES = np.geomspace(0.01, 60_000, 400)
"""The bins of the latency histogram, in milliseconds: a quantile is accurate to 4 %."""

Row = dict[str, Any]
"""A logged prediction, as `logged.rows` returns it."""


@dataclass
class Window:
    """The period from `begin` to `end`, in UTC; `counts` has the bins of each feature and prediction of `readable` answers.

    `pairs` are truths with the champion's predictions, `truths` the number of pairs they were chosen from: for answers
    that became `truth_delay` old in the window, so they were given before it.
    """

    begin: datetime
    end: datetime
    answers: int = 0
    readable: int = 0
    refused: int = 0
    missing: collections.Counter[str] = field(default_factory=collections.Counter)
    counts: Counts = field(default_factory=dict)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    truths: int = 0
    milliseconds: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(EDGES) + 1, np.int64))

    @property
    def refused_share(self) -> float:
        """The share of records that were refused."""
        return self.refused / max(self.refused + self.answers, 1)

    def latency(self, share: float) -> float | None:
        """The milliseconds within which that share of the answers was given; None if unknown."""
        total = self.milliseconds.cumsum()
        return float(EDGES[min(int(np.searchsorted(total, share * total[-1])), len(EDGES) - 1)]) if total[-1] else None

    def measured(self) -> tuple[str, float, float, float] | None:
        """The metric in use with its 95 % interval, if enough truth is known."""
        if len(self.pairs) < quality.FEW:
            return None
        return quality.measured([came for came, _ in self.pairs], [said for _, said in self.pairs])

    def add(self, rows: list[Row], card: dict[str, Any], speak: truth.Said) -> None:
        """Count some logged predictions."""
        self.answers += len(rows)
        took = np.array([row["milliseconds"] for row in rows if row["milliseconds"] is not None], np.float64)
        self.milliseconds += np.bincount(np.searchsorted(EDGES, took), minlength=len(EDGES) + 1)
        rows = _readable(rows, speak)
        self.readable += len(rows)
        for name, found in drift.counts(card.get("distribution", {}), _seen(rows, card, speak)).items():
            self.counts[name] = self.counts.get(name, 0) + found
        for each in schema.FIELDS:
            self.missing[each.name] += sum(row["record"].get(each.name) is None for row in rows)

    def compare(self, came: Any, said: Any, rng: np.random.Generator) -> None:
        """Add the truth of an answer."""
        self.truths += 1
        if len(self.pairs) < SAMPLE:
            self.pairs.append((came, said))
        elif (place := int(rng.integers(self.truths))) < SAMPLE:
            self.pairs[place] = (came, said)


def read(begin: datetime, end: datetime, length: int, card: dict[str, Any], delay: int) -> list[Window]:
    """The windows of `length` seconds from `begin` to `end` in which anything was logged; with length 0 a single window.

    Args:
        begin: of the first window.
        end: of the last one.
        length: of each, in seconds.
        card: of the champion, with whose training data answers are compared.
        delay: the age of an answer in seconds at which its truth counts.
    """
    step, wait = timedelta(seconds=length) if length else end - begin, timedelta(seconds=delay)
    found: dict[datetime, Window] = {}
    held: dict[datetime, list[Row]] = collections.defaultdict(list)
    speak, rng = truth.Said(), np.random.default_rng(0)

    def window(moment: datetime) -> Window:
        first = begin + (moment - begin) // step * step
        return found.setdefault(first, Window(first, first + step))

    def count() -> None:
        for first, rows in held.items():
            window(first).add(rows, card, speak)
        held.clear()

    for number, row in enumerate(logged.rows(since=stamp(begin), until=stamp(end)), 1):
        if row["role"] != "shadow" and row["time"] < stamp(end):
            held[window(datetime.fromisoformat(row["time"])).begin].append(row)
        if number % ROWS == 0:
            count()
    count()
    for time, refused in logged.refused(since=stamp(begin), until=stamp(end)):
        if stamp(begin) <= time < stamp(end):
            window(datetime.fromisoformat(time)).refused += refused

    champion = str(card["model_version"])
    ripe = stamp(begin - wait), stamp(end - wait)
    for batch in true(lambda row: (row["model_version"], row["role"]) == (champion, "champion"), *ripe):
        for row, came in batch:
            if row["time"] < ripe[1]:
                window(datetime.fromisoformat(row["time"]) + wait).compare(came, speak(row["answer"]), rng)
    return sorted(found.values(), key=lambda each: each.begin)


def true(wanted: Callable[[Row], bool], since: str = "", until: str = "") -> Iterator[list[tuple[Row, Any]]]:
    """Logged predictions with their truth, a few thousand at a time.

    Predictions without known truth are left out, as are those whose record or answer does not fit the current problem.py.
    """
    truths, speak = truth.known(), truth.Said()
    found = (
        (row, came)
        for row in logged.rows(since=since, until=until)
        if wanted(row) and (came := truth.of(row, truths)) is not None
    )
    while batch := list(itertools.islice(found, ROWS)):
        if kept := {id(row) for row in _readable([row for row, _ in batch], speak)}:
            yield [(row, came) for row, came in batch if id(row) in kept]


def stamp(moment: datetime) -> str:
    """A time in the log's format."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _readable(rows: list[Row], speak: truth.Said) -> list[Row]:
    """The rows whose record and answer fit the current problem.py: the log may be older than an edit of it."""
    try:
        if not private():
            columns(rows)
        needed = {each.name for each in schema.FIELDS if each.required} - private()
        if not any(None in (speak(row["answer"]), *map(row["record"].get, needed)) for row in rows):
            return rows
    except (TypeError, ValueError, OverflowError):
        pass
    return [row for row in rows if _readable([row], speak)] if len(rows) > 1 else []


def _seen(rows: list[Row], card: dict[str, Any], speak: truth.Said) -> drift.Seen:
    """The features of logged records, and the predictions."""
    predictions = numbers([speak(row["answer"]) for row in rows], card).astype(np.float32)
    # A feature cannot be computed from a field that is hashed in the log or left out of it.
    if private():
        return {drift.PREDICTION: predictions}
    return drift.seen(problem.features(columns(rows)), predictions)


def numbers(said: Iterable[Any], card: dict[str, Any]) -> NDArray[np.float64]:
    """Targets as numbers, as in training, shape (n,): the index of a class, nan for a class that the model does not know."""
    if problem.TASK == "multiclass":
        names = conformal.classes(card)
        number = {str(name): place for place, name in enumerate(names)}
        said = [number.get(each, np.nan) for each in said]
    return np.array(list(said), np.float64)


def private() -> set[str]:
    """The fields of a record that the log does not have in clear."""
    return set(getattr(problem, "PRIVATE", ())) & {each.name for each in schema.FIELDS}


def ago(seconds: int) -> datetime:
    """The time this many seconds ago."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def columns(rows: Iterable[Row]) -> Columns:
    """The logged records as columns, each of shape (n,).

    Raises:
        UserError: the log has no complete records, because fields of them are private.
    """
    if private():
        raise UserError(f"the log has {', '.join(sorted(private()))} hashed or not at all (PRIVATE of problem.py)")
    records = [row["record"] for row in rows]
    found = {}
    for each in schema.FIELDS:
        values = [record.get(each.name) for record in records]
        if any(isinstance(value, list | dict) for value in values):
            raise TypeError(f"{each.name} has more than one value")
        if each.kind is np.datetime64:
            values = [np.datetime64("NaT") if value is None else value for value in values]
        found[each.name] = np.array(values, each.dtype)
    return found


def worse(card: dict[str, Any], found: tuple[str, float, float, float], margin: float) -> bool:
    """Whether a metric in use is significantly worse than on the validation rows, by more than this share of its loss."""
    if problem.METRIC not in card.get("metrics", {}) or found[0] != problem.METRIC:
        return False
    expected = metrics.loss(problem.METRIC, card["metrics"][problem.METRIC])
    return min(metrics.loss(problem.METRIC, end) for end in found[2:]) > expected * (1 + margin)
