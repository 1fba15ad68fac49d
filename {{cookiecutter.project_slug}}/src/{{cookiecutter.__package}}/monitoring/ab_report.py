"""Champion and challenger compared in use: a report with a verdict, which is valid no matter how often it is looked at."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import mlflow
import numpy as np
from numpy.typing import NDArray

from .. import problem
from ..base import params, reports
from ..base.errors import Parser, UserError
from ..model import live
from ..model.ab_split import known_as
from ..tracking import conventions, store
from . import logged, quality, truth

Interval = tuple[float, float, float]
"""A difference, and the lower and the upper end of its interval."""

ALPHA = 0.05
FIRST_LOOK = 200
"""The minimum number of truths for each of the two before a verdict: the interval rests on the central limit theorem."""

PLANNED = 5_000
"""The interval is narrowest at about this many truths; it is valid at any number."""

HEADER = ("", "champion", "challenger")


def scores(losses: NDArray[np.float64], challenger: NDArray[np.bool_], share: float) -> NDArray[np.float64]:
    """Numbers whose mean is the challenger's mean loss minus the champion's, one for each of n answers, shape (n,).

    Each loss is weighted with the inverse of the probability that it was observed (section 3 of the paper that `interval` names).

    Args:
        losses: of n answers in chronological order, shape (n,).
        challenger: which of them are the challenger's, shape (n,).
        share: the probability that the challenger answers, between 0 and 1.
    """
    # Subtracting the mean loss so far, which is independent of the current answer, reduces variance without bias.
    usual = np.concatenate([[0.0], np.cumsum(losses)[:-1]]) / np.maximum(np.arange(len(losses)), 1)
    return np.asarray((losses - usual[: len(losses)]) * np.where(challenger, 1 / share, -1 / (1 - share)))


def interval(differences: NDArray[np.float64]) -> Interval:
    """The mean of n differences, shape (n,), and an interval that holds at all times simultaneously.

    An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2021, "Time-uniform central limit
    theory and asymptotic confidence sequences", theorem 2.2): if one looks every day and stops as soon as a difference
    shows, equal models are still told apart in at most 5 % of cases.
    """
    count = len(differences)
    # The sample size at which the interval is narrowest: their appendix B.2.
    rho = (-2 * math.log(ALPHA) + math.log(-2 * math.log(ALPHA) + 1)) / PLANNED
    mean, variance = float(differences.mean()), float(differences.var())
    inner = count * rho + 1
    width = math.sqrt(2 * variance * inner / (count**2 * rho) * math.log(math.sqrt(inner) / ALPHA))
    return mean, mean - width, mean + width


def losses(truths: Sequence[Any], said: Sequence[Any]) -> NDArray[np.float64]:
    """The loss of each of n answers: squared or absolute error, log loss of a probability, or 1 for a wrong class."""
    if problem.TASK == "multiclass":
        return np.array([one != other for one, other in zip(truths, said, strict=True)], np.float64)
    actual, scores = np.array(truths, np.float64), np.array(said, np.float64)
    if problem.TASK == "binary":
        chance = np.clip(np.where(actual == 1, scores, 1 - scores), 1e-6, 1)
        return np.asarray(-np.log(chance))
    return np.abs(actual - scores) if problem.METRIC == "mae" else (actual - scores) ** 2


LOSS = {"regression": "absolute error" if problem.METRIC == "mae" else "squared error", "binary": "log loss", "multiclass": "share of errors"}[problem.TASK]  # fmt: skip


def even(champion: int, challenger: int, share: float) -> bool:
    """Whether the numbers of answers match the share; a correct split fails this test in one of a thousand cases."""
    spread = math.sqrt((champion + challenger) * share * (1 - share))
    return abs(challenger - (champion + challenger) * share) <= 3.29 * spread + 1


class Arm(NamedTuple):
    """One version's answers: when it first answered, latencies and predictions, and those with known truth: time, id, truth, prediction."""

    version: str
    first: str
    milliseconds: list[float]
    said: list[Any]
    known: list[tuple[str, str, Any, Any]]


def collect(version: str, role: str, since: str = "", until: str = "", share: float | None = None) -> Arm:
    """The answers of a version in a role in a period, while the challenger had a `share`, if one is given; the first of each key.

    Keys are the unit of randomization. Answers to one key are not independent of each other, and counting all of them
    would make every interval too narrow.
    """
    arm, truths, speak = Arm(version, "", [], [], []), truth.known(), truth.Said()
    seen: set[str] = set()
    first = ""
    for row in logged.rows(since=since, until=until):
        if (row["model_version"], row["role"]) != (version, role) or share not in (None, row.get("share", share)):
            continue
        first = min(first or row["time"], row["time"])
        said, came, name = speak(row["answer"]), truth.of(row, truths), key(row)
        if name in seen or said is None:
            continue
        seen.add(name)
        arm.said.append(said)
        arm.milliseconds.append(math.nan if row["milliseconds"] is None else row["milliseconds"])
        if came is not None:
            arm.known.append((row["time"], row["prediction_id"], came, said))
    return arm._replace(first=first)


def key(row: dict[str, Any]) -> str:
    """The unit of randomization of a logged prediction: the record's id, else the record."""
    return known_as(row["record"].get(problem.ID)) or json.dumps(row["record"], sort_keys=True, default=str)


def difference(champion: Arm, challenger: Arm, share: float) -> Interval | None:
    """The interval of the challenger's mean loss minus the champion's; a share of 0 means that both answered the same records."""
    return claim(differences(champion, challenger, share))


def claim(found: NDArray[np.float64]) -> Interval | None:
    """The interval of n differences, once they are `FIRST_LOOK`."""
    return interval(found) if len(found) >= FIRST_LOOK else None


def differences(champion: Arm, challenger: Arm, share: float) -> NDArray[np.float64]:
    """Numbers in the order of time whose mean is that difference, shape (n,); none where too few truths are known."""
    if min(len(champion.known), len(challenger.known)) < FIRST_LOOK:
        return np.zeros(0)
    lost = [losses([each[2] for each in arm.known], [each[3] for each in arm.known]) for arm in (champion, challenger)]
    if not share:
        ours = {name: value for (_, name, *_), value in zip(champion.known, lost[0].tolist(), strict=True)}
        names = [name for _, name, *_ in challenger.known]
        pairs = [(value, ours[name]) for name, value in zip(names, lost[1].tolist(), strict=True) if name in ours]
        return np.array([one - other for one, other in pairs], np.float64)
    order = np.argsort([each[0] for arm in (champion, challenger) for each in arm.known], kind="stable")
    tried = np.repeat([False, True], [len(champion.known), len(challenger.known)])
    # The first answer has no earlier ones whose mean could be subtracted.
    return scores(np.concatenate(lost)[order], tried[order], share)[1:]


def png(figure: Any) -> bytes:
    """A figure of matplotlib's for `write`."""
    held = io.BytesIO()
    figure.savefig(held, dpi=90)
    return held.getvalue()


def drawn(found: NDArray[np.float64]) -> bytes:
    """A picture of the mean of n differences and its interval as truths came in: PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    looks = np.unique(np.geomspace(FIRST_LOOK, len(found), 60).astype(int))
    mean, low, high = np.array([interval(found[:look]) for look in looks]).T
    axes.fill_between(looks, low, high, alpha=0.25)
    axes.plot(looks, mean)
    axes.axhline(0, color="gray", linewidth=1)
    axes.set(xlabel="truths known", title=f"The challenger's {LOSS} minus the champion's, with its 95 % interval")
    return png(figure)


def verdict(found: Interval | None, known: int, fair: bool = True) -> tuple[str, str]:
    """`better`, `worse` or `undecided`, and why; `fair` is false if the numbers of answers do not match the share."""
    if not fair:
        return "undecided", "the numbers of answers are not what the share lets one expect: answers are lost somewhere"
    if found is None or not all(map(math.isfinite, found)):
        return (
            "undecided",
            f"{known:,} truths are known; {FIRST_LOOK:,} of each version are the fewest that say something",
        )
    mean, low, high = found
    said = f"the challenger's {LOSS} differs from the champion's by {mean:+.4g} (95 %: {low:+.4g} to {high:+.4g})"
    if low <= 0 <= high:
        # The interval narrows with the square root of the number of truths, or slightly slower.
        more = int(known * ((high - low) / 2 / max(abs(mean), 1e-12)) ** 2) - known
        return "undecided", said + (
            f"; about {more:,} more truths would decide" if more < 100 * known else "; they are much alike"
        )
    ends = sorted((abs(low), abs(high)))
    less = f"than the champion's by {abs(mean):.4g} (95 %: {ends[0]:.4g} to {ends[1]:.4g})"
    return (
        ("worse", f"the challenger's {LOSS} is higher {less}")
        if low > 0
        else ("better", f"the challenger's {LOSS} is lower {less}")
    )


def table(champion: Arm, challenger: Arm, share: float) -> Iterator[tuple[str, ...]]:
    """The figures of the two, a row each with the columns of `HEADER`."""
    arms = (champion, challenger)
    yield "version", *(arm.version for arm in arms)
    yield "answers", *(f"{len(arm.said):,}" for arm in arms)
    if share:
        fair = even(len(champion.said), len(challenger.said), share)
        yield (
            f"share {share:g}",
            *(f"{len(arm.said) / max(sum(len(each.said) for each in arms), 1):.3f}" for arm in arms),
        )
        yield (
            "sample ratio",
            "as expected" if fair else "NOT as expected: look for lost answers before you believe this",
            "",
        )
    yield "truths known", *(f"{len(arm.known):,}" for arm in arms)
    for share_of, name in ((50, "median"), (99, "99 %")):
        yield f"milliseconds, {name}", *(_quantile(arm.milliseconds, share_of) for arm in arms)
    if problem.TASK != "multiclass":
        for share_of in (10, 50, 90):
            yield f"answers, {share_of} %", *(_quantile(arm.said, share_of) for arm in arms)
    yield problem.METRIC, *(_metric(arm) for arm in arms)


def _metric(arm: Arm) -> str:
    if not arm.known:
        return "no truth yet"
    _, value, low, high = quality.measured([each[2] for each in arm.known], [each[3] for each in arm.known])
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def _quantile(values: Sequence[float], share: float) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{np.percentile(known, share):.4g}" if known else "-"


def main() -> None:
    """`make ab-report`: compare champion and challenger in use, on the terminal, as a page and as an MLflow run."""
    parser = Parser(prog="make ab-report", description=main.__doc__)
    parser.add_argument("--shadow", action="store_true", help="compare what the challenger only noted (SHADOW=1)")
    given = parser.parse_args()
    said = live.last_experiment(conventions.model_name(), "shadow" if given.shadow else "ab")
    share = 0.0 if given.shadow else said.share
    if share == 1:
        raise UserError("a share of 1 leaves no champion to compare with: give the challenger less, make ab SHARE=0.5")
    role, weight = ("shadow", None) if given.shadow else ("challenger", share)
    challenger = collect(said.challenger, role, said.since, said.until, weight)
    if not challenger.said:
        does = "make shadow SHARE=1" if given.shadow else "make ab SHARE=0.1"
        had = (
            f"challenger {said.challenger} has answered nothing since {said.since}"
            if said.challenger and share
            else "no challenger has had a share yet"
        )
        raise UserError(f"{had}: {does} gives it one")
    arms = collect(said.champion, "champion", max(said.since, challenger.first), said.until, weight), challenger
    differ = differences(*arms, share)
    found = claim(differ)
    fair = not share or even(len(arms[0].said), len(arms[1].said), share)
    outcome, why = verdict(found, sum(len(arm.known) for arm in arms), fair)
    text = f"**{outcome}**: {why}\n\n{reports.table(HEADER, table(*arms, share))}\n\nFrom {said.since or 'the beginning'} to {said.until or 'now'}; of each key the first answer.\n"
    print(text.replace("**", ""))
    reports.write(
        params.ROOT / "reports",
        "shadow-report" if given.shadow else "ab-report",
        f"{said.champion} and {said.challenger}",
        f"# Version {said.challenger} beside {said.champion}\n\n{text}",
        {"the difference and its interval": drawn(differ)} if found else {},
    )
    with (
        store.errors(),
        mlflow.start_run(
            experiment_id=conventions.experiment("ab"), run_name=f"{said.challenger} beside {said.champion}"
        ),
    ):
        mlflow.set_tags(
            {"verdict": outcome, "verdict_reason": why, "champion": said.champion, "challenger": said.challenger}
        )
        if found:
            mlflow.log_metrics(dict(zip(("difference", "low", "high"), found, strict=True)))
        mlflow.log_text(text, "ab-report.md")
    print(f"reports/{'shadow' if given.shadow else 'ab'}-report.html is the report")
