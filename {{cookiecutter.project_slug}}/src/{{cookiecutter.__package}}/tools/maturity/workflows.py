"""What a project's CI really runs: the commands of its workflows that can fail a job, and when they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from .project import Project

ENDURED = re.compile(r"\|\||;\s*(true|exit 0)\s*$|(?<!\|)\|(?!\|)")
"""What makes a command's failure nobody's concern: another command instead, after, or behind a pipe."""


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with tags of its own, as GitLab's `!reference`, whose content is left out."""


Loader.add_multi_constructor("!", lambda *_: None)


MAIN = ("main", "master", "trunk", "develop")


@dataclass(frozen=True)
class Step:
    """A line that CI runs, in which file and job, on which events, and the environment that the job deploys to."""

    file: str
    job: str
    events: frozenset[str]
    environment: str
    line: str


def steps(project: Project) -> Iterator[Step]:
    """Every line that GitHub Actions or GitLab CI runs and whose failure fails the job; a file that is no YAML has none."""
    for path in project.files(".github/workflows/*.yml", ".github/workflows/*.yaml", ".gitlab-ci.yml"):
        try:
            content = Loader(path.read_text(encoding="utf-8")).get_single_data()
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        if isinstance(content, dict):
            name = path.relative_to(project.path).as_posix()
            yield from _gitlab(name, content) if path.name == ".gitlab-ci.yml" else _github(name, content)


def _github(file: str, content: dict[Any, Any]) -> Iterator[Step]:
    # YAML 1.1 reads the word `on` as a truth value.
    given = content.get("on", content.get(True, {}))
    events = frozenset(
        [given] if isinstance(given, str) else [name for name in given or [] if not _elsewhere(given, name)]
    )
    for name, job in (content.get("jobs") or {}).items():
        if _off(job):
            continue
        for step in job.get("steps") or []:
            if not _off(step):
                for line in _lines(step.get("run")):
                    yield Step(file, str(name), events, _environment(job), line)


def _elsewhere(given: Any, name: str) -> bool:
    """Whether an event is only that of tags, or of branches that are neither the main one nor any."""
    only = given.get(name) if isinstance(given, dict) else None
    if name != "push" or not isinstance(only, dict):
        return False
    branches = only.get("branches") or []
    return not any("*" in each or each in MAIN for each in branches) if branches else bool(only.get("tags"))


def _gitlab(file: str, content: dict[Any, Any]) -> Iterator[Step]:
    for name, job in content.items():
        if not isinstance(job, dict) or "script" not in job or job.get("allow_failure") or str(name).startswith("."):
            continue
        rules = job.get("rules") or []
        if rules and all(isinstance(each, dict) and each.get("when") == "never" for each in rules):
            continue
        events = {"workflow_dispatch"} if job.get("when") == "manual" else {"push"}
        events |= {"schedule"} if "schedule" in str(rules or job.get("only", "")) else set()
        for given in job["script"] if isinstance(job["script"], list) else [job["script"]]:
            for line in _lines(given):
                yield Step(file, str(name), frozenset(events), _environment(job), line)


def _environment(job: dict[Any, Any]) -> str:
    given = job.get("environment") or ""
    return str(given.get("name", "") if isinstance(given, dict) else given)


def _off(part: dict[Any, Any]) -> bool:
    never = str(part.get("if", "")).strip("${} ").lower() == "false"
    return never or str(part.get("continue-on-error", "")).strip("${} ").lower() == "true"


def _lines(script: Any) -> Iterator[str]:
    """The commands of a script, without comments and without those whose failure is endured."""
    for line in re.sub(r"\\\n\s*", " ", str(script or "")).splitlines():
        command = re.sub(r"(^|\s)#.*$", "", line).strip()
        if command and not ENDURED.search(command):
            yield command


BEFORE = r"(?:\w+=\S+\s+)*(?:@)?(?:(?:pipenv|uv|poetry|hatch) run (?:--\S+ )*)?(?:\S*python[\d.]*(?:\.exe)? -m |coverage run -m )?"
"""What may stand before a command: variables, a runner, an interpreter."""


def runs(command: str, words: str) -> bool:
    """Whether a line runs a command that begins with a pattern, alone or after another one."""
    return re.search(rf"(?:^|&&|;)\s*{BEFORE}(?:{words})(?=\s|$)", command) is not None


def targets(command: str) -> list[str]:
    """The targets that a line makes."""
    found = re.search(r"(?:^|&&|;)\s*make\s+([^&;]+)", command)
    return [word for word in found[1].split() if re.fullmatch(r"[a-zA-Z][\w-]*", word)] if found else []
