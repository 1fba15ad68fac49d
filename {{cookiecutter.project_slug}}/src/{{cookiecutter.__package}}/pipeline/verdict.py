"""Candidate against champion on the same rows: better, worse or undecided, and how many more rows would decide."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .. import metrics, problem
from ..base import params
from ..data.clean import Dataset
from ..model.predictor import Predicts
from ..training.evaluate import LEAST_ROWS, MOST, RESAMPLES, parts

CALLS = 200
"""The number of single records that each model answers, in turn, to compare their latency."""


class Rules(params.Section):
    """What a candidate must achieve, compared with the champion; shares of the champion's loss, and of its latency."""

    table = "gate"
    min_improvement: float = Field(default=0.1, ge=0, lt=1)
    margin: float = Field(default=0.0, ge=0)
    segment_floor: float = Field(default=0.1, ge=0)
    max_latency: float = Field(default=1.5, ge=1)
    promote: str = Field(default="auto", pattern="^(auto|ask|steps)$")


@dataclass(frozen=True)
class Verdict:
    """`better`, `worse` or `undecided`, the reason in one sentence, and the table of figures behind it."""

    outcome: str
    why: str
    rows: list[list[str]]


def compare(newest: Dataset, ours: NDArray[Any], theirs: NDArray[Any], rules: Rules, seed: int) -> Verdict:
    """The verdict on a candidate's `measured` scores of n rows compared with the champion's; neither was trained on the rows.

    Resamples take the same rows for both (paired percentile bootstrap, Efron 1979), so that a difficult row counts for both.
    """
    name, wanted = problem.METRIC, rules.margin
    candidate, champion = (metrics.loss(name, lost(newest.target, scores)) for scores in (ours, theirs))
    low, high = difference(newest.target, ours, theirs, seed)
    table = [[name, f"{candidate:.4f}", f"{champion:.4f}", f"{low:+.1%} to {high:+.1%}"]]
    fallen = []
    for feature in problem.SEGMENTS:
        for label, rows in parts(feature, newest.columns):
            if rows.sum() >= LEAST_ROWS and (problem.TASK == "regression" or np.ptp(newest.target[rows])):
                least, most = difference(newest.target[rows], ours[rows], theirs[rows], seed)
                table.append([f"{feature} {label}", "", "", f"{least:+.1%} to {most:+.1%}"])
                # With many segments, one is always a little worse by chance: it must be worse for sure, and by more than the floor.
                if least > 0 and (least + most) / 2 > rules.segment_floor:
                    fallen.append(f"{feature} {label} by {(least + most) / 2:.0%}")
    if low > wanted:
        return Verdict("worse", f"{name} {candidate:.4f} is worse than {champion:.4f} of the champion", table)
    if fallen:
        return Verdict("worse", f"it is worse where {' and '.join(fallen[:3])}", table)
    if high < -wanted:
        return Verdict("better", f"{name} {candidate:.4f} is better than {champion:.4f} of the champion", table)
    more = _more_rows(len(newest), low, high, wanted)
    return Verdict(
        "undecided", f"{name} {candidate:.4f} and {champion:.4f} of the champion cannot be told apart: {more}", table
    )


def difference(actual: NDArray[np.float64], ours: NDArray[Any], theirs: NDArray[Any], seed: int) -> tuple[float, float]:
    """The 95 % interval of the difference in loss, from resamples of the n rows, as a share of the champion's loss.

    With very many rows a resample has `evaluate.MOST`, as for the intervals of the model card.
    """
    rng, most, found = np.random.default_rng(seed), min(len(actual), MOST), []
    theirs_of_all = lost(actual, theirs)
    of_all = lost(actual, ours) - theirs_of_all
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(actual), most)
        if problem.TASK == "regression" or np.ptp(actual[rows]):
            found.append(lost(actual[rows], ours[rows]) - lost(actual[rows], theirs[rows]))
    ends = of_all + (np.quantile(found, [0.025, 0.975]) - of_all) * (most / len(actual)) ** 0.5
    low, high = ends / max(abs(theirs_of_all), 1e-12)
    return float(low), float(high)


def lost(actual: NDArray[np.float64], scores: NDArray[Any]) -> float:
    """The loss of `problem.METRIC` on n rows."""
    return metrics.loss(problem.METRIC, metrics.METRICS[problem.TASK][problem.METRIC].of(actual, scores))


def _more_rows(rows: int, low: float, high: float, margin: float) -> str:
    """The interval halves with four times the rows: the number of rows at which it would exclude the margin, if its middle stays."""
    away, half = abs((low + high) / 2) - margin, (high - low) / 2
    if away <= 0 or half == 0 or (half / away) ** 2 > 1_000:
        return "more rows would hardly decide"
    return f"about {rows * ((half / away) ** 2 - 1):,.0f} more rows to validate with would decide"


def slower(candidate: Predicts, champion: Predicts, newest: Dataset) -> tuple[float, list[str]]:
    """The candidate's time for one record as a multiple of the champion's, and the row of the table with it."""
    spent: dict[str, list[float]] = {"candidate": [], "champion": []}
    for row in range(CALLS):
        one = newest.take(slice(row % len(newest), row % len(newest) + 1)).columns
        for name, model in (("candidate", candidate), ("champion", champion)):
            started = time.perf_counter()
            model.predict(one)
            spent[name].append(time.perf_counter() - started)
    ours, theirs = (statistics.median(times) * 1_000 for times in spent.values())
    return ours / theirs, ["one record", f"{ours:.3f} ms", f"{theirs:.3f} ms", f"{ours / theirs:.2f} times"]


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict and its figures for a terminal."""
    yield f"{verdict.outcome}: {verdict.why}"
    widths = [max(len(row[place]) for row in [HEADER, *verdict.rows]) for place in range(len(HEADER))]
    for row in [HEADER, *verdict.rows]:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


HEADER = ["on the same rows", "candidate", "champion", "loss compared with the champion's"]
