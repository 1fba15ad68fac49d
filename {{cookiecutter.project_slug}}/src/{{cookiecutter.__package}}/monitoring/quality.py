"""The quality of predictions whose truth is known: the metric in use by version and day."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import metrics, problem
from ..base import reports
from ..base.errors import Parser, UserError
from ..model import conformal
from . import logged, prediction_log, truth

RESAMPLES, FEW = 500, 30
HEADER = ("version", "role", "day", "predictions", "truths", "metric", "value", "95 % interval", "inside")


def measured(truths: Sequence[Any], said: Sequence[Any], seed: int = 0) -> tuple[str, float, float, float]:
    """A metric's name, its value for n predictions with known truth, and its 95 % interval by the bootstrap."""
    if problem.TASK == "multiclass":
        right = np.array([one == other for one, other in zip(truths, said, strict=True)], np.float64)
        spread = 1.96 * right.std() / math.sqrt(len(right))
        return "accuracy", float(right.mean()), float(right.mean() - spread), float(right.mean() + spread)
    actual, scores = np.array(truths, np.float64), np.array(said, np.float64)
    of = metrics.METRICS[problem.TASK][problem.METRIC].of
    rng = np.random.default_rng(seed)
    picks = (rng.integers(0, len(actual), len(actual)) for _ in range(RESAMPLES))
    low, high = np.quantile([of(actual[pick], scores[pick]) for pick in picks], [0.025, 0.975])
    return problem.METRIC, float(of(actual, scores)), float(low), float(high)


def rows(since: str = "", until: str = "") -> Iterator[tuple[Any, ...]]:
    """For each version and role, and each of their days, a row with the columns of `HEADER`."""
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    found: dict[tuple[str, str, str], list[tuple[Any, Any]]] = defaultdict(list)
    inside: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    truths, said = truth.known(), truth.Said()
    for row in logged.rows(since=since, until=until):
        for day in (row["time"][:10], "all"):
            key = row["model_version"], row["role"], day
            counts[key] += 1
            came = truth.of(row, truths)
            if came is not None and (answer := said(row["answer"])) is not None:
                found[key].append((came, answer))
                if (held := covers(row["answer"], came)) is not None:
                    inside[key].append(held)
    for key in sorted(counts, key=lambda each: (each[0].zfill(9), each[1], each[2])):
        pairs = found[key]
        if pairs:
            name, value, low, high = measured([came for came, _ in pairs], [each for _, each in pairs])
            ends = f"{low:.4g} to {high:.4g}" if len(pairs) >= FEW else "too few truths"
            within = f"{np.mean(inside[key]):.1%}" if inside[key] else ""
            yield (*key, counts[key], len(pairs), name, f"{value:.4g}", ends, within)
        else:
            yield (*key, counts[key], 0, "", "", "no truth yet", "")


def covers(answer: Mapping[str, Any], came: Any) -> bool | None:
    """Whether the truth is inside an answer's interval or set; None if the answer has none."""
    if any(answer.get(name) in (None, "") or answer[name] != answer[name] for name in conformal.FIELDS):
        return None
    if problem.TASK == "regression":
        return bool(answer["low"] <= came <= answer["high"])
    name = conformal.named(came) if problem.TASK == "multiclass" else str(came == 1).lower()
    return name in str(answer["prediction_set"]).split(",")


def main() -> None:
    """`make quality`: print the metric in use by version and day, and how many predictions have no truth yet."""
    parser = Parser(prog="make quality", description=main.__doc__)
    parser.add_argument("--since", default="", help="first day or time (SINCE=2024-01-31)")
    parser.add_argument("--until", default="", help="last day or time, itself included (UNTIL=2024-02-29)")
    given = parser.parse_args()
    since, until = (prediction_log.beginning(getattr(given, name), name.upper()) for name in ("since", "until"))
    if not (found := list(rows(since, until))):
        raise UserError("nothing was predicted" + (" in that time" if since or until else " yet: the log is empty"))
    wide = len(HEADER) - (not any(row[-1] for row in found))
    print(reports.table(HEADER[:wide], (row[:wide] for row in found)))
    whole = [row for row in found if row[2] == "all" and row[1] != "shadow"]
    open_ = sum(row[3] - row[4] for row in whole)
    print(f"{open_:,} of {sum(row[3] for row in whole):,} predictions wait for their truth (make truth DATA=file)")
