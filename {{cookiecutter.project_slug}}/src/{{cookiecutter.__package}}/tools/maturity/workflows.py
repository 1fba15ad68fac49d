"""What a project's CI really runs: the commands of its workflows that can fail a job, and when they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .project import Project

ENDURED = re.compile(r"\|\||;\s*(true|exit 0)\s*$|(?<!\|)\|(?!\|)")
"""Shell syntax that hides a command's failure: an alternative, a following command, or a pipe."""


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with custom tags, such as GitLab's `!reference`, whose content is left out."""


Loader.add_multi_constructor("!", lambda *_: None)


MAIN = ("main", "master", "trunk", "develop")


@dataclass(frozen=True)
class Step:
    """A line that CI runs, with its file and job, its events, and the environment that the job deploys to."""

    file: str
    job: str
    events: frozenset[str]
    environment: str
    line: str


def steps(project: Project) -> Iterator[Step]:
    """Every line that GitHub Actions or GitLab CI runs and whose failure fails the job; a file that is not YAML has none."""
    for path in project.files(".github/workflows/*.yml", ".github/workflows/*.yaml"):
        yield from _github(path.relative_to(project.path).as_posix(), _read(path))
    jobs = dict(_jobs(project, ".gitlab-ci.yml"))
    for name, (file, _) in jobs.items():
        yield from _gitlab(file, name, _extended(name, jobs))


def _read(path: Path) -> dict[Any, Any]:
    try:
        content = Loader(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    return content if isinstance(content, dict) else {}


def _github(file: str, content: dict[Any, Any]) -> Iterator[Step]:
    # YAML 1.1 reads the word `on` as a boolean.
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
    """Whether an event is only for tags, or for branches other than the main one."""
    only = given.get(name) if isinstance(given, dict) else None
    if name != "push" or not isinstance(only, dict):
        return False
    branches = only.get("branches") or []
    return not any("*" in each or each in MAIN for each in branches) if branches else bool(only.get("tags"))


def _jobs(project: Project, *patterns: str) -> Iterator[tuple[str, tuple[str, dict[Any, Any]]]]:
    """The top-level entries of GitLab's files, those of included files first: name -> file and content."""
    for path in project.files(*patterns):
        content = _read(path)
        included = content.pop("include", None) or []
        for each in included if isinstance(included, list) else [included]:
            local = each.get("local", "") if isinstance(each, dict) else "" if "://" in str(each) else str(each)
            if local.strip("/"):
                yield from _jobs(project, local.strip("/"))
        for name, job in content.items():
            if isinstance(job, dict):
                yield str(name), (path.relative_to(project.path).as_posix(), job)


def _extended(name: str, jobs: dict[str, tuple[str, dict[Any, Any]]], depth: int = 0) -> dict[Any, Any]:
    """A job with the keys of those that it extends."""
    own = jobs[name][1]
    given = own.get("extends") or []
    whole: dict[Any, Any] = {}
    for each in given if isinstance(given, list) else [given]:
        if each in jobs and depth < len(jobs):
            whole |= _extended(each, jobs, depth + 1)
    return whole | own


SOURCES = {"push": "push", "merge_request_event": "pull_request", "schedule": "schedule", "web": "workflow_dispatch"}
"""GitLab's names for what starts a pipeline, and GitHub's."""


def _gitlab(file: str, name: str, job: dict[Any, Any]) -> Iterator[Step]:
    if "script" not in job or job.get("allow_failure") or name.startswith("."):
        return
    events: set[str] = set()
    for rule in job.get("rules") or [{}]:
        when = rule.get("when", job.get("when")) if isinstance(rule, dict) else ""
        if when not in ("never", "manual"):
            asked = str(rule.get("if", "")) if isinstance(rule, dict) else ""
            only = "CI_PIPELINE_SOURCE" in asked and "!" not in asked
            events |= {event for source, event in SOURCES.items() if source in asked} if only else {"push"}
        events |= {"workflow_dispatch"} if when == "manual" else set()
    events |= {"schedule"} if "schedule" in str(job.get("only", "")) else set()
    for given in job["script"] if isinstance(job["script"], list) else [job["script"]]:
        for line in _lines(given):
            yield Step(file, name, frozenset(events), _environment(job), line)


def _environment(job: dict[Any, Any]) -> str:
    given = job.get("environment") or ""
    return str(given.get("name", "") if isinstance(given, dict) else given)


def _off(part: dict[Any, Any]) -> bool:
    never = str(part.get("if", "")).strip("${} ").lower() == "false"
    return never or str(part.get("continue-on-error", "")).strip("${} ").lower() == "true"


def _lines(script: Any) -> Iterator[str]:
    """The commands of a script, without comments and without those whose failure is ignored."""
    for line in re.sub(r"\\\n\s*", " ", str(script or "")).splitlines():
        command = re.sub(r"(^|\s)#.*$", "", line).strip()
        if command and not ENDURED.search(command):
            yield command


BEFORE = r"(?:\w+=\S+\s+)*(?:@)?(?:(?:pipenv|uv|poetry|hatch) run (?:--\S+ )*)?(?:\S*python[\d.]*(?:\.exe)? -m |coverage run -m )?"
"""What may precede a command: variables, a runner, an interpreter."""


def runs(command: str, words: str) -> bool:
    """Whether a line runs a command that matches a pattern, alone or after another one."""
    return re.search(rf"(?:^|&&|;)\s*{BEFORE}(?:{words})(?=\s|$)", command) is not None


def targets(command: str) -> list[str]:
    """The make targets of a line."""
    found = re.search(r"(?:^|&&|;)\s*make\s+([^&;]+)", command)
    return [word for word in found[1].split() if re.fullmatch(r"[a-zA-Z][\w-]*", word)] if found else []
