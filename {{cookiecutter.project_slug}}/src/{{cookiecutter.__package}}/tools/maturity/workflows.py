"""What a project's CI really runs: the commands of its workflows that can fail a job, and when they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from .project import Project

ENDURED = re.compile(r"\|\|\s*(true|:|exit 0)|;\s*(true|exit 0)\s*$")
"""What makes a command's failure nobody's concern."""


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
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        if isinstance(content, dict):
            name = path.relative_to(project.path).as_posix()
            yield from _gitlab(name, content) if path.name == ".gitlab-ci.yml" else _github(name, content)


def _github(file: str, content: dict[Any, Any]) -> Iterator[Step]:
    # YAML 1.1 reads the word `on` as a truth value.
    given = content.get("on", content.get(True, {}))
    events = frozenset([given] if isinstance(given, str) else given or [])
    for name, job in (content.get("jobs") or {}).items():
        if _off(job):
            continue
        environment = job.get("environment") or ""
        target = environment.get("name", "") if isinstance(environment, dict) else environment
        for step in job.get("steps") or []:
            if not _off(step):
                for line in _lines(step.get("run")):
                    yield Step(file, str(name), events, str(target), line)


def _gitlab(file: str, content: dict[Any, Any]) -> Iterator[Step]:
    for name, job in content.items():
        if not isinstance(job, dict) or "script" not in job or job.get("allow_failure") is True:
            continue
        environment = job.get("environment") or ""
        target = environment.get("name", "") if isinstance(environment, dict) else environment
        manual = {"workflow_dispatch"} if job.get("when") == "manual" else {"push", "schedule"}
        for given in job["script"] if isinstance(job["script"], list) else [job["script"]]:
            for line in _lines(given):
                yield Step(file, str(name), frozenset(manual), str(target), line)


def _off(part: dict[Any, Any]) -> bool:
    never = str(part.get("if", "")).strip("${} ").lower() == "false"
    return never or str(part.get("continue-on-error", "")).strip("${} ").lower() == "true"


def _lines(script: Any) -> Iterator[str]:
    """The commands of a script, without comments and without those whose failure is endured."""
    for line in re.sub(r"\\\n\s*", " ", str(script or "")).splitlines():
        command = re.sub(r"(^|\s)#.*$", "", line).strip()
        if command and not ENDURED.search(command):
            yield command


def runs(command: str, words: str) -> bool:
    """Whether a line runs a command that begins with a pattern, alone or after another one."""
    before = r"(?:pipenv run |uv run |poetry run |python3? -m |xvfb-run )?"
    return re.search(rf"(?:^|&&|;)\s*{before}(?:{words})(?=\s|$)", command) is not None
