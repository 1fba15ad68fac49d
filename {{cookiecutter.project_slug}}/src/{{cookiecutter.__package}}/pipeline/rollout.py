"""Roll out a better model by steps, and watch a new champion: continue, stop or wait; each decision is logged first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..base import params
from ..base.errors import UserError, first_line
from ..data import drift
from ..data.drift import Lasting
from ..model import bundle, fetch, live
from ..model.predictor import Predictor
from ..monitoring import ab_report, truth, windows
from ..monitoring.monitor import Monitor
from ..registry import champion_log, share, versions
from ..tracking import conventions, store

LONGEST_HOLDS, LONGEST_SECONDS = 24, 86_400
"""A step without enough answers after this many times its `hold`, a day at least, ends the roll-out."""


class Rollout(params.Section):
    """The challenger's shares, the minimum duration of each step, and how long a new champion is watched."""

    table = "rollout"
    steps: tuple[float, ...] = Field(default=(0.05, 0.25, 1.0), min_length=1)
    hold: Lasting = "1h"
    min_answers: int = Field(default=200, ge=1)
    watch: Lasting = "1d"
    max_latency: float = Field(default=1.5, ge=1)


class Move(NamedTuple):
    """A version that became champion, the one before, and when."""

    version: str
    before: str
    at: str


def notes() -> list[dict[str, str]]:
    """The registry's log, latest first."""
    return fetch.registered(conventions.model_name())[1]


def note(action: str, version: str, reason: str) -> None:
    """Add a decision to the registry's log, before it is carried out."""
    with store.errors():
        champion_log.note(store.connect(), conventions.model_name(), action, "", "", version, reason)


def running() -> str:
    """The version that is being rolled out; empty if there is none."""
    for each in notes():
        if each["alias"] == versions.CHAMPION or each["action"] == "stop":
            return ""
        if each["action"] == "rollout":
            return each["now"]
    return ""


def begin(version: str, reason: str) -> str:
    """Give a version the share of the first step; returns a line that says so."""
    champion = live.experiment(conventions.model_name()).champion
    note("rollout", version, reason)
    return _give(version, Rollout.load().steps[0], reason, champion)


def _give(version: str, step: float, reason: str, champion: str) -> str:
    return versions.promote(version, reason, champion) if step >= 1 else share.give("ab", f"{step:g}", reason, version)


def step() -> str:
    """Take the running roll-out to its next step, end it, or let it wait; returns a line with the decision and the reason.

    Raises:
        UserError: the registry cannot be reached, or nothing is rolled out.
    """
    rules, before, version, said = Rollout.load(), len(notes()), running(), live.experiment(conventions.model_name())
    if version == said.champion or not _servable(version):
        return stop(version, "it is champion, archived or gone")
    if not _given():  # it was interrupted before the first step was given
        return _give(version, rules.steps[0], "the roll-out was resumed", said.champion)
    if said.challenger != version or not said.share:
        note("stop", version, "somebody has given another share")
        return f"the roll-out of version {version} has ended: somebody has given another share (make log)"
    champion, challenger = (
        ab_report.collect(number, role, said.since, said.until, said.share)
        for number, role in ((said.champion, "champion"), (version, "challenger"))
    )
    found = ab_report.difference(champion, challenger, said.share)
    fair = ab_report.even(len(champion.said), len(challenger.said), said.share)
    outcome, why = ab_report.verdict(found, len(champion.known) + len(challenger.known), fair)
    slow = _slower(champion.milliseconds, challenger.milliseconds, rules)
    held, hold = age(said.since), _until_ripe(rules.hold)
    enough = held >= hold and len(challenger.said) >= rules.min_answers and fair
    late = held >= max(LONGEST_HOLDS * hold, LONGEST_SECONDS) and not enough
    if len(notes()) != before:
        return f"version {version} is unchanged: somebody else made a decision at the same time (make log)"
    if outcome == "worse" or slow or (late and outcome != "better"):
        few = f"{len(challenger.said):,} of {rules.min_answers:,} keys answered in {held:.0f} s; {why}"
        return stop(version, slow or (why if outcome == "worse" else few))
    if outcome != "better" and not enough:
        return f"version {version} keeps its share of {said.share:g}: {len(challenger.said):,} answers in {held:.0f} s; {why}"
    reason = why if outcome == "better" else f"not worse after {rules.hold} and {len(challenger.said):,} answers: {why}"
    return _give(version, next((each for each in rules.steps if each > said.share), 1.0), reason, said.champion)


def _until_ripe(lasting: str) -> int:
    """This duration in seconds, plus the time until the truth of answers is known."""
    return drift.seconds(lasting) + drift.seconds(Monitor.load().truth_delay)


def _servable(version: str) -> bool:
    try:
        return versions.find(version).tags.get("status") != "archived"
    except UserError as error:
        if "there is no version" not in str(error):
            raise
        return False


def _given() -> bool:
    """Whether a share was given since the roll-out began."""
    actions = [each["action"] for each in notes()]
    return "ab" in actions[: actions.index("rollout")]


def stop(version: str, why: str) -> str:
    """End a roll-out: the challenger gets no share any more; returns a line that says so."""
    note("stop", version, why)
    said = live.experiment(conventions.model_name())
    if said.challenger == version and said.share:
        share.give("ab", "0", why, version)
    return f"the roll-out of version {version} was stopped: {why}"


def finish() -> Iterator[str]:
    """Carry out what was logged and then interrupted: a move of the champion's alias, the end of a challenger's share; a line for each.

    Raises:
        UserError: somebody is moving the alias at this moment.
    """
    if moved := _finish_move():
        yield moved
    last = next((each for each in notes() if each["action"] in ("rollout", "stop", "ab")), {"action": ""})
    said = live.experiment(conventions.model_name())
    if last["action"] == "stop" and said.challenger == last["now"] and said.share:
        yield share.give("ab", "0", last["reason"], last["now"])


def _finish_move() -> str:
    client, name, said = store.connect(), conventions.model_name(), ""
    with store.errors():
        # The lock of a process that died while it moved the alias is still there.
        if not client.search_registered_models(f"name = '{name}{champion_log.TURN}'"):
            return ""
        with champion_log.alone(client, name):
            found = client.get_registered_model(name)
            move = next((each for each in champion_log.log(found) if each["alias"] == versions.CHAMPION), None)
            if move and str(found.aliases.get(versions.CHAMPION, "")) == move["was"]:
                client.set_registered_model_alias(name, versions.CHAMPION, move["now"])
                said = f"version {move['now']} is champion: the {move['action']} of {move['at']} had been interrupted"
            versions.settle(client, name)
    return said


def _slower(champion: list[float], challenger: list[float], rules: Rollout) -> str:
    # A batch job does not time single answers.
    champion, challenger = ([each for each in arm if not math.isnan(each)] for arm in (champion, challenger))
    if min(len(champion), len(challenger)) < rules.min_answers:
        return ""
    ours, theirs = (statistics.median(each) for each in (challenger, champion))
    times = ours / max(theirs, 1e-9)
    return f"an answer takes {times:.2f} times as long as the champion's" if times > rules.max_latency else ""


def unsettled() -> Move | None:
    """The champion, while it is watched: it replaced another version, and the decision to keep it is still open."""
    log = notes()
    moved = next((place for place, each in enumerate(log) if each["alias"] == versions.CHAMPION), None)
    if moved is None or log[moved]["action"] != "promote" or not log[moved]["was"]:
        return None
    found = Move(log[moved]["now"], log[moved]["was"], log[moved]["at"])
    return None if ("keep", found.version) in [(each["action"], each["now"]) for each in log[:moved]] else found


def watch(moved: Move) -> str:
    """Keep a new champion, or roll back to the one before: both have answered the same records; returns the decision and the reason.

    Raises:
        UserError: the registry cannot be reached.
    """
    over, before = age(moved.at) >= _until_ripe(Rollout.load().watch), len(notes())
    try:
        differences = paired(moved)
    except UserError as error:
        outcome, why = "", f"it cannot be compared with version {moved.before} ({first_line(error)})"
    else:
        found = ab_report.interval(differences) if len(differences) >= ab_report.FIRST_LOOK else None
        outcome, why = ab_report.verdict(found, len(differences))
        why = why.replace("the challenger's", f"version {moved.version}'s")
        why = why.replace("the champion's", f"version {moved.before}'s")
    if len(notes()) != before:
        return f"champion {moved.version} is unchanged: somebody else made a decision at the same time (make log)"
    if outcome == "worse":
        if _servable(moved.before):
            return versions.rollback(f"in use: {why}", moved.version)
        why = f"it cannot be rolled back, as version {moved.before} is archived or gone; {why}"
    if not over:
        return f"champion {moved.version} is watched: {why}"
    note("keep", moved.version, why)
    return f"champion {moved.version} is kept: {why}"


def paired(moved: Move) -> NDArray[np.float64]:
    """The loss of a champion's first answer to each key, minus the loss of the version before on the same record, shape (n,).

    Raises:
        UserError: the version before cannot be fetched, or cannot be loaded by this code.
    """
    folder = fetch.folder(f"models:/{conventions.model_name()}/{moved.before}")
    before, speak = Predictor(bundle.read(folder)), truth.Said()
    found: list[NDArray[np.float64]] = [np.zeros(0)]
    seen: set[str] = set()

    def first(row: dict[str, Any]) -> bool:
        if row["model_version"] != moved.version or row["role"] != "champion" or ab_report.key(row) in seen:
            return False
        seen.add(ab_report.key(row))
        return True

    for batch in windows.true(first, moved.at):
        rows, came = zip(*batch, strict=True)
        answers = {name: values.tolist() for name, values in before.predict(windows.columns(rows)).items()}
        theirs = [speak(dict(zip(answers, values, strict=True))) for values in zip(*answers.values(), strict=True)]
        found.append(ab_report.losses(came, [speak(row["answer"]) for row in rows]) - ab_report.losses(came, theirs))
    return np.concatenate(found)


def age(at: str) -> float:
    """The age of a log entry's time in seconds."""
    return (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
