"""One round of operation: monitor, decide, retrain, roll out by steps, keep or roll back; each decision is logged before it is carried out."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import sys
import time
from collections.abc import Iterator

import prometheus_client

from ..base import params
from ..base.errors import Parser, UserError, first_line
from ..data import drift
from ..monitoring import monitor, monitor_page
from ..registry import versions
from ..tracking import conventions, store
from . import retrain, rollout, run
from .verdict import Rules

LOCK = params.ROOT / ".cache" / "operate.lock"
WEEK = 7 * 86_400
ATTEMPTS = 3
"""The maximum number of attempts at a training that was interrupted."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let only one round run on this machine; the system releases the lock of a process that died.

    Raises:
        UserError: another round runs.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    # SQLite's lock of a file is the only one in the standard library that works on every system.
    with contextlib.closing(sqlite3.connect(LOCK, timeout=0, isolation_level=None)) as held:
        try:
            held.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise UserError("another round of `make operate` runs here: wait for its end") from None
        yield


def once(new: bool = False, wanted: str = "") -> Iterator[str]:
    """One round; yields a line for each action, or why there was none.

    Args:
        new: everything logged since the last look is one window.
        wanted: the reason, if a person asks for retraining.

    Raises:
        UserError: the registry cannot be reached, another round runs, or the requested training is not possible now.
    """
    with alone():
        if by := held():
            if wanted:
                raise UserError(f"{by}; nothing was trained: try again then")
            yield by
            monitor.watch(new)
            return
        yield from rollout.finish()
        if moved := rollout.unsettled():
            yield rollout.watch(moved)
        if rollout.running():
            yield rollout.step()
        found = monitor.watch(new)
        if rollout.running() or rollout.unsettled():
            if wanted:
                raise UserError("nothing was trained, as a version is rolled out or watched: try again after that")
            return
        if begun := _begun():
            yield from _train(begun[0]["reason"], begun)
        elif version := _better():
            yield rollout.begin(version, "the gate found it better")
        elif reason := decide(found, wanted):
            yield from _train(reason, [])
        elif found.alarms.keys() - {"refused"}:
            yield 'the alarm is still active; make operate RETRAIN="why" trains now'
        else:
            yield "training does not help with refused records: check their sender" if found.alarms else "nothing to do"


def decide(found: monitor.Finding, wanted: str = "") -> str:
    """Why a model is to be retrained; empty if it is not, for which the reason is printed."""
    rules, log = retrain.Retrain.load(), rollout.notes()
    trained = [each["at"] for each in log if each["action"] == "retrain"]
    last = trained[0] if trained else next((each["at"] for each in log if each["alias"]), "")
    if wanted:
        return f"by hand: {wanted}"
    reasons = [f"{name}: {why}" for name, why in found.alarms.items() if name != "refused"]
    if not reasons and rules.every and last and rollout.age(last) >= drift.seconds(rules.every):
        reasons = [f"schedule: the last training was more than {rules.every} ago"]
    if not reasons and rules.new_rows and last and (came := retrain.came(last)) >= rules.new_rows:
        reasons = [f"new data: {came:,} answers since the last training have their truth"]
    if not reasons:
        return ""
    reason = "; ".join(reasons)
    if trained and rollout.age(trained[0]) < drift.seconds(rules.cooldown):
        print(f"not trained again for {reason}: the last time is less than {rules.cooldown} ago ([retrain] cooldown)")
        return ""
    if sum(rollout.age(each) < WEEK for each in trained) >= rules.budget:
        print(f"not trained again for {reason}: {rules.budget} times a week are allowed ([retrain] budget)")
        return ""
    return reason


def _train(reason: str, begun: list[dict[str, str]]) -> Iterator[str]:
    """Retrain, or resume a training that has `begun` and was interrupted, and begin the roll-out of a better model."""
    version = _registered(begun[0]) if begun else ""
    if len(begun) >= ATTEMPTS and not version:
        rollout.note("retrained", "", f"no new version: stopped after {ATTEMPTS} attempts")
        yield f'not trained again ({reason}): it was interrupted {ATTEMPTS} times; make operate RETRAIN="why" tries again'
        return
    if not version:
        rollout.note("retrain", "", reason)
        os.environ["TRIGGER"] = _trigger(_begun()[0])
        try:
            version = run.run(retrain.data(monitor.champion()))
        except UserError as error:
            rollout.note("retrained", "", f"no new version: {first_line(error)}")
            yield f"trained again ({reason}), but no new version: {first_line(error)}"
            return
        finally:
            del os.environ["TRIGGER"]
    rollout.note("retrained", version, reason)
    yield f"trained again ({reason}): version {version}"
    if _better() == version and not held():
        yield rollout.begin(version, f"better than the champion, trained again for {reason}")


def _begun() -> list[dict[str, str]]:
    """The attempts at a training that was decided and has not ended because rounds were interrupted; latest first."""
    latest = [each for each in rollout.notes() if each["action"] in ("retrain", "retrained")]
    return list(itertools.takewhile(lambda each: each["action"] == "retrain", latest))


def _trigger(attempt: dict[str, str]) -> str:
    """The tag of a training's runs."""
    return f"operate {attempt['at']}: {attempt['reason']}"[:200]


def _registered(attempt: dict[str, str]) -> str:
    """The version that a training has registered, if it got that far; it is then challenger."""
    with store.errors():
        client = store.connect()
        found = client.search_model_versions(f"name = '{conventions.model_name()}'")
        for each in found:
            if client.get_run(str(each.run_id)).data.tags.get("trigger") == _trigger(attempt):
                if versions.CHAMPION not in client.get_model_version(each.name, each.version).aliases:
                    client.set_registered_model_alias(each.name, versions.CHALLENGER, each.version)
                return str(each.version)
    return ""


def _better() -> str:
    """The challenger, if the gate found it better than this champion, and nobody has begun or stopped its roll-out."""
    found = versions.model() if Rules.load().promote == "steps" else None
    version = str(found.aliases.get(versions.CHALLENGER, "")) if found else ""
    champion = str(found.aliases.get(versions.CHAMPION, "")) if found else ""
    tried = [each["now"] for each in rollout.notes() if each["action"] in ("rollout", "stop")]
    if not version or version == champion or version in tried:
        return ""
    with store.errors():
        client = store.connect()
        tags = client.get_run(str(client.get_model_version(conventions.model_name(), version).run_id)).data.tags
    return version if (tags.get("verdict"), tags.get("verdict_beside", champion)) == ("better", champion) else ""


def held() -> str:
    """Who has put operation on hold, when and why; empty if it is not on hold."""
    last = next((each for each in rollout.notes() if each["action"] in ("hold", "go")), None)
    if last is None or last["action"] == "go":
        return ""
    return f"on hold since {last['at']} by {last['by']} ({last['reason'] or 'no reason was given'}): `make go` ends it"


def main() -> None:
    """`make operate`: one round, or one EVERY=5m; `make hold` and `make go` pause and resume it."""
    parser = Parser(prog="make operate", description=main.__doc__)
    parser.add_argument("--every", default="", help="repeat rounds, with this time between them (EVERY=5m)")
    parser.add_argument("--new", action="store_true", help="everything since the last look is one window (NEW=1)")
    parser.add_argument("--retrain", default="", help='retrain for this reason (RETRAIN="new zones")')
    parser.add_argument("--port", type=int, default=9698, help="with EVERY, the port of the metrics for Prometheus")
    parser.add_argument("--note", choices=["hold", "go"], help="begin or end a hold")
    parser.add_argument("--reason", default="", help='why (REASON="a holiday")')
    given = parser.parse_args()
    if given.note:
        if versions.model() is None:
            raise UserError("no version is registered yet: run `make pipeline`")
        rollout.note(given.note, "", given.reason)
        held_back = "nothing is trained, rolled out or rolled back until `make go`"
        print(held_back if given.note == "hold" else "operation resumes with the next round")
        return
    pause = _seconds(given.every)
    if pause:
        _expose(given.port)
    while True:
        try:
            for line in once(given.new, given.retrain):
                print(line, flush=True)
            given.retrain = ""  # a person asks for one training, not for one in each round
        except Exception as error:  # whatever ends a round, the next one tries again
            if not pause:
                raise
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            print(f"error: {kind}{first_line(error)}", file=sys.stderr, flush=True)
        if not pause:
            return
        time.sleep(pause)


def _expose(port: int) -> None:
    try:
        prometheus_client.start_http_server(port, "127.0.0.1", monitor_page.REGISTRY)
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be used ({error}): try make operate EVERY=5m PORT=9700") from None
    print(f"metrics on http://127.0.0.1:{port}/metrics (Ctrl-C stops it)", flush=True)


def _seconds(text: str) -> int:
    try:
        found = drift.seconds(text) if text else 0
    except ValueError as error:
        raise UserError(f"EVERY={error}") from None
    if text and not found:
        raise UserError(f"EVERY={text} leaves no time between rounds: write it as 30s, 5m or 1h")
    return found
