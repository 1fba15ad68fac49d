"""`make problem`: generate a first problem.py, its sample and its tests from a data file, with questions to the user."""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from ...base import params
from ...base.errors import Parser, UserError
from . import tests, text
from .columns import Column, look, task
from .doubts import doubts, heavy, identifier
from .text import Plan

Ask = Callable[[str, bool], bool]
LEAST_ROWS = 500
"""The default of `[validation] min_rows`, unless the data have fewer rows."""


def plan(given: argparse.Namespace, ask: Ask) -> Plan:
    """The plan for the draft, from the arguments and the answers to questions.

    Raises:
        UserError: a file or a column is not usable.
    """
    columns = look(given.source)
    known = {name: column for column in columns for name in (column.name, column.given)}

    def named(option: str, name: str) -> Column:
        if name not in known:
            raise UserError(f"{option}={name!r}: {given.source.name} has {', '.join(c.given for c in columns)[:300]}")
        return known[name]

    target = named("TARGET", given.target)
    kind, classes = task(target, given.task)
    rest = [column for column in columns if column is not target]
    for word, said in (("ID", given.id), ("TIME", given.time), *(("DROP", each) for each in given.drop.split(","))):
        if said.strip() and named(word, said.strip()) is target:
            raise UserError(f"{word}={said.strip()} is the target column: name another one")
    dropped = [named("DROP", name.strip()) for name in given.drop.split(",") if name.strip()]
    rest = [column for column in rest if column not in dropped]
    name = named("ID", given.id) if given.id else identifier(rest)
    if name is not None and not given.id and not ask(f"{name.given} looks like the identifier of a row. Is it?", True):
        name = None
    rest = [column for column in rest if column is not name]
    if name is not None:
        print(f"  identifier of a row: {name.given}")
    clock = _timely(named("TIME", given.time)).name if given.time else _clock(rest)
    out = []
    for doubt in doubts(rest, target, clock, bool(classes)):
        leave = ask(f"{doubt.column.given}: {doubt.why}. Leave it out?", doubt.out)
        print(f"  {'left out' if leave else 'kept'}: {doubt.column.given} ({doubt.why})")
        out += [doubt.column] if leave else []
    fields = [column for column in rest if column not in out]
    if not fields:
        raise UserError(f"{given.source.name} has no column other than the target, so there is nothing to learn from")
    clock = clock if any(column.name == clock for column in fields) else ""
    called = name.name if name is not None else "id"
    return Plan(given.source.name, target, kind, classes, fields, clock, called, given.title, given.unit)


def _timely(column: Column) -> Column:
    if column.kind not in ("time", "day"):
        example = f", such as {column.known[0]!r}" if column.known else ""
        raise UserError(f"TIME={column.given} holds no times{example}: name a column of times to order rows by")
    if column.missing:
        raise UserError(
            f"TIME={column.given} is missing in {column.missing:,} of {column.rows:,} rows, which are ordered by it"
        )
    return column


def _clock(columns: list[Column]) -> str:
    """The time by which rows are ordered: among columns without missing values, the one that is earliest in most rows."""
    times = [
        column for column in columns if column.kind in ("time", "day") and not column.missing and column.distinct > 1
    ]
    return min(times, key=lambda column: float(column.numbers.mean()), default=None).name if times else ""  # type: ignore[union-attr]


def write(made: Plan) -> Iterator[str]:
    """Write the draft over the existing files, which are saved in `.cache`; a line for each file."""
    files = {
        params.PACKAGE / "problem.py": text.problem(made),
        params.PACKAGE / "problem.json": json.dumps(text.seen(made)) + "\n",
    }
    if (params.ROOT / "tests").exists():
        files |= {params.ROOT / name: content for name, content in tests.texts(made, params.PACKAGE.name).items()}
    settings = params.ROOT / "params.toml"
    files[settings] = _fitting(settings.read_text(encoding="utf-8"), made)
    before = params.ROOT / ".cache" / f"problem-before-{datetime.now():%Y%m%d-%H%M%S}"
    partials = {path: path.with_name(f".{path.name}.partial") for path in files}
    for path, content in files.items():
        partials[path].write_text(content, encoding="utf-8")
        if path.suffix == ".py":
            _tidy(partials[path])
    for path, partial in partials.items():
        if path.exists():
            kept = before / path.relative_to(params.ROOT)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, kept)
        partial.replace(path)
        yield f"wrote {path.relative_to(params.ROOT)}"
    yield f"the previous files were saved in {before.relative_to(params.ROOT)}"


def _fitting(settings: str, made: Plan) -> str:
    """params.toml without the settings that this problem does not use, and with limits that its data can meet."""
    lines, table = [], ""
    for line in settings.splitlines():
        table = line.split("]")[0].strip("[") if line.startswith("[") else table
        if table == "decision" and made.task != "binary":
            continue
        if line.startswith("min_rows") and made.target.rows < 2 * LEAST_ROWS:
            line = f"min_rows = {max(made.target.rows // 2, 1)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _tidy(path: Path) -> None:
    """Let ruff sort the imports and format the file, if it is installed."""
    if importlib.util.find_spec("ruff"):
        for words in (["check", "--quiet", "--fix", "--select", "I,F401"], ["format", "--quiet"]):
            command = [sys.executable, "-m", "ruff", *words, "--extension", "partial:python", str(path)]
            subprocess.run(command, cwd=params.ROOT, check=False)


def _asked(question: str, default: bool) -> bool:
    """The answer of the user at the terminal; Enter takes the default."""
    while True:
        said = input(f"{question} [{'Y/n' if default else 'y/N'}] ").strip().lower()
        if said in ("", "y", "yes", "n", "no"):
            return default if not said else said.startswith("y")
        print("answer y or n, or press Enter for the letter in capitals")


def typed(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of the command line, or `words` if given.

    Raises:
        UserError: the file or the target is missing.
    """
    parser = Parser(prog="make problem", description=main.__doc__)
    parser.add_argument("--source", default="", help="CSV or Parquet file, or a folder (FROM=data.csv)")
    parser.add_argument("--target", default="", help="the column to predict (TARGET=column)")
    parser.add_argument("--time", default="", help="the column that rows are ordered by (TIME=)")
    parser.add_argument("--id", default="", help="the column that identifies a row (ID=)")
    parser.add_argument("--drop", default="", help="columns to leave out (DROP=a,b)")
    parser.add_argument("--task", default="", choices=["", *text.METRICS], help="the kind of task (TASK=)")
    parser.add_argument("--title", default="", help="a title for the page, as a question (TITLE=)")
    parser.add_argument("--unit", default="", help="the unit of the target (UNIT=)")
    parser.add_argument("--yes", action="store_true", help="accept every default and ask no questions (YES=1)")
    given = parser.parse_args(words)
    if not given.source or not given.target:
        raise UserError("say which file and which of its columns: make problem FROM=data.csv TARGET=column")
    given.source = Path(given.source)
    return given


def main() -> None:
    """`make problem`: draft problem.py from FROM, a CSV or Parquet file or a folder of them, to predict its column TARGET."""
    given = typed()
    asking = sys.stdin.isatty() and not given.yes
    try:
        made = plan(given, _asked if asking else lambda question, default: default)
    except (EOFError, KeyboardInterrupt):
        raise UserError("stopped; nothing was written") from None
    print("\n".join(write(made)))
    print(
        f"{made.task} of {made.target.given} from {len(made.fields)} column{'s' * (len(made.fields) > 1)}"
        + (f", by {made.time}" if made.time else "")
    )
    if made.classes:
        print(f"classes in this order: {', '.join(map(str, made.classes))}")
    elif heavy(made.target):
        print(
            f'most values of {made.target.given} are small and a few are very large: set METRIC = "mae", or learn its logarithm '
            "(np.log1p in target, np.expm1 in answer)"
        )
    print(f"read problem.py, then: make check-problem, and make train DATA={given.source}")
