"""`make maturity`: which MLOps practices this project has, the evidence for each, and the command for the next one."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...base.errors import Parser, UserError, first_line, near
from ...base.params import ROOT
from . import engineering, models, operation
from .project import Found, Project

BELOW = 4
"""The exit code if LEVEL is not reached."""


CLIMB = """pipx run cruft update --variables-to-update '{"maturity_level": "%d"}'"""


class Practice(NamedTuple):
    """A practice that a level requires: its name, how it is checked, and the command that establishes it."""

    level: int
    name: str
    what: str
    look: Callable[[Project], Found]
    remedy: str


PRACTICES = (
    Practice(0, "tracked", "a tracked run has a model that loads", models.loads, "make train"),
    Practice(1, "locked", "packages are locked by content", engineering.locked, "pipenv lock"),
    Practice(1, "tested", "the tests pass", engineering.tested, "make test"),
    Practice(1, "noticed", "the tests notice a mistake", engineering.noticed, "write a test that fails if it is made"),
    Practice(1, "checked", "CI runs the tests", engineering.checked, "let CI run `make test`"),
    Practice(1, "image", "the image is built from the lock", engineering.image, "RUN pipenv sync in the Dockerfile"),
    Practice(
        2, "traced", "the version is tied to commit, data and lock", models.traced, "git commit, then make pipeline"
    ),
    Practice(2, "repeated", "training it again gives the same metrics", models.repeated, "make reproduce VERSION="),
    Practice(2, "named", "its data are named by their content", models.named, "make data KEEP=file"),
    Practice(2, "trained", "a machine trains", models.trained, "let CI run `make pipeline` on a schedule"),
    Practice(
        3, "refused", "a worse model was refused", operation.refused, "make pipeline with a worse setting, committed"
    ),
    Practice(3, "answered", "predictions are logged", operation.answered, "make serve, score or stream; then predict"),
    Practice(3, "served", "the champion is what answers", operation.served, "make promote; then predict"),
    Practice(3, "came_true", "what came true is known", operation.came_true, "make truth DATA=file"),
    Practice(3, "taken_back", "a champion was rolled back", operation.taken_back, "make rollback"),
    Practice(3, "deployed", "a machine deploys", operation.deployed, "let CI run `make deploy` in an environment"),
    Practice(4, "watched", "a monitor looks at the answers", operation.watched, "make monitor"),
    Practice(4, "acted", "an alarm led to a decision", operation.acted, "make operate"),
    Practice(4, "by_steps", "a version was rolled out by steps", operation.by_steps, "make operate"),
    Practice(4, "minded", "a new champion was watched", operation.minded, "make operate"),
)


def judge(project: Project, wanted: list[str]) -> Iterator[tuple[Practice, Found]]:
    """Check the practices, all or those that are wanted, one after the other."""
    for practice in PRACTICES:
        if practice.name in wanted or not wanted:
            try:
                yield practice, practice.look(project)
            except Exception as error:  # the project under test may be broken in any way
                yield practice, Found("no", first_line(error))


def level(found: list[tuple[Practice, Found]]) -> int:
    """The highest level for which all practices are there, with those of the levels below; -1 if not even a model was tracked."""
    lacking = [practice.level for practice, each in found if each.verdict != "yes"]
    return min(lacking, default=PRACTICES[-1].level + 1) - 1


def main() -> int:
    """`make maturity`: check each practice and print the evidence; with LEVEL=3 the exit code tells whether that level is reached."""
    parser = Parser(prog="make maturity", description=main.__doc__)
    parser.add_argument("--level", default="", help="exit code 4 where this level is not reached (LEVEL=3)")
    parser.add_argument("--project", type=Path, default=ROOT, help="another project's folder (FOLDER=../other)")
    parser.add_argument("--practice", default="", help="try these only (PRACTICE=locked,tested)")
    parser.add_argument("--json", action="store_true", help="for a program (JSON=1)")
    given = parser.parse_args()
    names = [each.name for each in PRACTICES]
    wanted = [each.strip() for each in given.practice.split(",") if each.strip()]
    for each in wanted:
        if each not in names:
            raise UserError(f"PRACTICE={each} is none of {', '.join(names)}{near(each, names)}")
    if wanted and given.level:
        raise UserError("LEVEL asks for all practices of a level: leave PRACTICE out")
    if given.level not in ("", "0", "1", "2", "3", "4"):
        raise UserError(f"LEVEL={given.level} is none of 0 to 4")
    if not given.project.is_dir():
        raise UserError(f"FOLDER={given.project} is no folder")
    found = []
    for practice, each in judge(Project(given.project.resolve()), wanted):
        found.append((practice, each))
        if not given.json:
            print("\n".join(_lines(practice, each, len(found) == 1 or found[-2][0].level < practice.level)), flush=True)
    reached = level(found)
    if given.json:
        print(
            json.dumps({"level": None if wanted else reached, "practices": [_entry(*each) for each in found]}, indent=1)
        )
    elif not wanted:
        lacking = [practice.name for practice, each in found if practice.level == reached + 1 and each.verdict != "yes"]
        print(f"\nlevel {reached}" if reached >= 0 else "\nno level yet", end="")
        print(f"; level {reached + 1} lacks {', '.join(lacking)}" if lacking else ": all practices are there")
        if reached < PRACTICES[-1].level and reached == _generated(given.project):
            print(f"files of level {reached + 1}: {CLIMB % (reached + 1)}")
    return BELOW if given.level and reached < int(given.level) else 0


def _generated(project: Path) -> int:
    """The maturity level that the project was generated with; -1 if unknown."""
    file = project / ".cruft.json"
    found = re.search(r'"maturity_level": "(\d)"', file.read_text(encoding="utf-8")) if file.is_file() else None
    return int(found[1]) if found else -1


def _entry(practice: Practice, found: Found) -> dict[str, Any]:
    return {"level": practice.level, "name": practice.name, "practice": practice.what, **found._asdict(), "remedy": practice.remedy}  # fmt: skip


def _lines(practice: Practice, found: Found, first: bool) -> Iterator[str]:
    if first:
        yield f"level {practice.level}"
    yield f"  {found.verdict:7}{practice.name:11}{practice.what}"
    yield from textwrap.wrap(found.evidence, 110, initial_indent=" " * 20, subsequent_indent=" " * 20)
    if found.verdict != "yes":
        yield f"{' ' * 18}> {practice.remedy}"
