"""The practices of levels 3 and 4: refused models, logged predictions, ground truth, rollback, monitoring and decisions."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime, timedelta

from . import workflows
from .project import Found, Project, day

LATE_SECONDS = 30
"""How long after a move of the champion the one before may still answer."""

STALE_DAYS = 30
"""A monitor without a look for this long counts as stopped."""


def refused(project: Project) -> Found:
    """A worse model was refused, by the current gate."""
    unknown = ""
    for run in project.runs(wanted="tags.verdict = 'worse'"):
        what = (
            f"run {run.info.run_id[:8]} of {day(run.info.start_time)}: {run.data.tags.get('verdict_reason', '')[:120]}"
        )
        commit = run.data.tags.get("git_commit", "")
        if not project.has_commit(commit) or run.data.tags.get("git_dirty") == "true":
            unknown = unknown or f"{what}; from files that no commit here has, so nobody knows by which gate"
            continue
        then = tomllib.loads(project.git("show", f"{commit}:./params.toml")).get("gate")
        now = tomllib.loads(project.text("params.toml")).get("gate")
        changed = project.git("diff", "--name-only", commit, "--", f"src/{project.package}/pipeline").split()
        if then != now or changed:
            return Found(
                "no", f"the gate has changed since it refused {what[:60]}: {(changed or ['[gate] of params.toml'])[0]}"
            )
        return Found("yes", what)
    return Found("partly", unknown) if unknown else Found("no", "no worse model was ever refused")


def answered(project: Project) -> Found:
    """Each prediction is logged with its version."""
    if not project.answers:
        return Found("no", "there is no log of predictions")
    last = project.answers[-1]
    return Found("yes", f"{len(project.answers):,} predictions, the last by version {last['model_version']} at {last['time']:%Y-%m-%d %H:%M} UTC")  # fmt: skip


def served(project: Project) -> Found:
    """The last answer came from the champion of that time."""
    mine = [each for each in project.answers if each["role"] == "champion"]
    if not mine:
        return Found("no", "there is no log of predictions by a champion")
    time, version = mine[-1]["time"], mine[-1]["model_version"]
    moves = [(_at(each), each["now"]) for each in project.log if each["alias"] == "champion"]
    before = [number for at, number in moves if at <= time]
    allowed = {*before[-1:], *(number for at, number in moves if abs((time - at).total_seconds()) < LATE_SECONDS)}
    if moves and abs((time - moves[-1][0]).total_seconds()) < LATE_SECONDS:
        allowed |= set(before[-2:])
    if version in allowed:
        return Found("yes", f"version {version} answered at {time:%Y-%m-%d %H:%M} UTC and was champion then")
    return Found("no", f"version {version} answered at {time:%Y-%m-%d %H:%M} UTC; champion was {', '.join(sorted(allowed)) or 'none'}")  # fmt: skip


def came_true(project: Project) -> Found:
    """The truth is joined with the predictions."""
    done = project.command("quality")
    counted = re.search(r"([\d,]+) of ([\d,]+) predictions wait", done.stdout) if done else None
    if counted is None:
        return Found("no", "nothing tells how good the answers were")
    waiting, total = (int(each.replace(",", "")) for each in counted.groups())
    return Found(
        "yes" if waiting < total else "no", f"the truth of {total - waiting:,} of {total:,} predictions is known"
    )


def taken_back(project: Project) -> Found:
    """A champion was rolled back, and the one before answered again."""
    for note in reversed(project.log):
        if note["action"] == "rollback" and note["alias"] == "champion":
            return Found("yes", f"{note['at']}, {note['by']}: from version {note['was']} to {note['now']} ({note['reason'][:80]})")  # fmt: skip
    return Found("no", "no champion was ever taken back")


def deployed(project: Project) -> Found:
    """A workflow deploys to an environment."""
    words = r"make(?: \S+)* deploy|kubectl (?:\S+ )*(?:apply|rollout|set)|helm (?:upgrade|install)|terraform apply|docker (?:push|stack deploy)|eb deploy|(?:aws|az|gcloud) (?:\S+ )*(?:\S*deploy\S*|\S*update\S*|sync)"
    for step in workflows.steps(project):
        if step.environment and workflows.runs(step.line, words):
            return Found("yes", f"{step.file}, job {step.job} to {step.environment}: {step.line[:80]}")
    return Found("no", "no workflow deploys to an environment")


def watched(project: Project) -> Found:
    """A monitor has recently checked the answers."""
    found = [each for each in project.runs("monitor", most=1) if "causes" in each.data.tags]
    if not found:
        return Found("no", "no monitor has looked at the predictions")
    causes = ", ".join(json.loads(found[0].data.tags["causes"])) or "nothing to see"
    what = f"run {found[0].info.run_id[:8]} of {day(found[0].info.start_time)}: {causes}"
    old = datetime.now(UTC) - datetime.fromtimestamp(found[0].info.start_time / 1000, UTC) > timedelta(days=STALE_DAYS)
    return Found("partly" if old else "yes", f"{what}{'; nobody has looked since' * old}")


def acted(project: Project) -> Found:
    """An alarm led to a decision: a new version, or a candidate that was refused."""
    alarm = None
    for note in project.log:
        if note["action"] == "retrain" and re.match(r"drift|quality", note["reason"]):
            alarm = note
        elif alarm and note["action"] == "retrained":
            came = f"version {note['now']}" if note["now"] else note["reason"][:80]
            return Found("yes", f"{alarm['at']}: {alarm['reason'][:80]}; {note['at']}: {came}")
    return Found("partly", f"{alarm['at']}: a training was decided and has not ended") if alarm else Found("no", "no alarm ever led to a training")  # fmt: skip


def by_steps(project: Project) -> Found:
    """A version got a share of the records before it got all of them."""
    begun, shared = "", False
    for note in project.log:
        if note["action"] == "rollout":
            begun, shared = note["now"], False
        shared = shared or (bool(begun) and note["action"] == "ab" and note["now"] not in ("", "0"))
        if note["alias"] == "champion" and note["now"] == begun and shared:
            return Found("yes", f"version {begun} was rolled out by steps and is champion since {note['at']}")
    return Found("partly", f"the roll-out of version {begun} did not come to its end") if begun else Found("no", "no version was rolled out by steps")  # fmt: skip


def minded(project: Project) -> Found:
    """A new champion was watched: kept, or rolled back without a person."""
    for note in reversed(project.log):
        if note["action"] == "keep":
            return Found("yes", f"{note['at']}: version {note['now']} was kept ({note['reason'][:80]})")
        if note["action"] == "rollback" and note["reason"].startswith("in use: "):
            return Found("yes", f"{note['at']}: version {note['was']} was rolled back ({note['reason'][:80]})")
    return Found("no", "no new champion was watched to the end")


def _at(note: dict[str, str]) -> datetime:
    return datetime.fromisoformat(note["at"])
