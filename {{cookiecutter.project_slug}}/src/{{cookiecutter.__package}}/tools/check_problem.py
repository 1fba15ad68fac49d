"""Check `problem.py`: try everything that the package needs from it, and report what is wrong with its line."""

from __future__ import annotations

import ast
import difflib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..base import params
from ..base.errors import UserError

try:
    from .. import estimators, metrics, problem
    from ..data import clean, schema
    from ..model.bundle import Bundle, ModelError
    from ..model.predictor import Predictor
    from ..training import export
    from .write_sample import records
except (SyntaxError, NameError, ImportError, TypeError, AttributeError, ValueError) as error:
    # Nothing else of the package can be imported if problem.py cannot.
    where = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
    raise UserError(f"problem.py{where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from None

NAMES = (
    "TITLE", "TASK", "TARGET", "UNIT", "TIME", "ID", "METRIC", "Record", "Answer", "EXAMPLE", "FEATURES", "CATEGORIES",
    "SEGMENTS", "SOURCE", "RAW", "ALIASES", "TARGET_RULES", "features", "answer", "prepare", "target", "sample",
)  # fmt: skip
"""The names that the package needs from `problem.py` (the template's guide explains each)."""

ROWS = 600


class ProblemError(Exception):
    """An error in `problem.py`: the name that it concerns, and what is wrong."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(what)
        self.name = name


def need(true: Any, name: str, what: str) -> None:
    """Raise `ProblemError` unless a condition holds."""
    if not true:
        raise ProblemError(name, what)


def names() -> str:
    """Check that every name is defined."""
    for name in NAMES:
        if not hasattr(problem, name):
            near = difflib.get_close_matches(name, [each for each in dir(problem) if each not in NAMES], 1)
            raise ProblemError(near[0] if near else "", f"there is no {name}" + (f"; is it {near[0]}?" if near else ""))
    known = metrics.METRICS.get(problem.TASK)
    need(known, "TASK", f"TASK is {problem.TASK!r}: it must be {', '.join(metrics.METRICS)}")
    need(
        problem.METRIC in (known or {}),
        "METRIC",
        f"METRIC is {problem.METRIC!r}: {problem.TASK} has {', '.join(known or {})}",
    )
    for name in ("CATEGORIES", "SEGMENTS"):
        strange = [each for each in getattr(problem, name) if each not in problem.FEATURES]
        need(not strange, name, f"{name} has {strange[:1]}, which is none of FEATURES")
    fields = problem.Record.model_fields
    need(not problem.TIME or problem.TIME in fields, "TIME", f"TIME is {problem.TIME!r}, which is no field of Record")
    need(
        problem.TARGET not in fields,
        "TARGET",
        f"the target {problem.TARGET!r} is a field of Record: nobody knows it yet",
    )
    return f"{len(NAMES)} names, {problem.TASK}, {problem.METRIC}"


def record() -> str:
    """Check that records can be validated, described and converted to columns."""
    try:
        made = problem.Record.model_validate_json(json.dumps(problem.EXAMPLE))
    except ValueError as error:
        raise ProblemError("EXAMPLE", f"EXAMPLE is no Record: {_short(error)}") from None
    described = problem.Record.model_json_schema()["properties"]
    for name, about in described.items():
        parts = [about, *about.get("anyOf", [])]
        need(
            not any({"ge", "le"} & set(part) for part in parts),
            "Record",
            f"{name}: put WHOLE after Field(ge=..., le=...)",
        )
    schema.columns([made])
    slow = [field.name for field in schema.FIELDS if not field.plain]
    return f"{len(described)} fields" + (f"; {', '.join(slow[:3])} checked row by row" if slow else "")


def sample() -> str:
    """Check that the sample has the columns of a file, and is the same for the same seed."""
    one, same, other = (problem.sample(ROWS, seed) for seed in (1, 1, 2))
    missing = [name for name in problem.RAW if name not in one]
    need(not missing, "sample", f"the sample has no column {missing[:1]}, which RAW names")
    need(
        all(len(one[name]) == ROWS for name in problem.RAW),
        "sample",
        f"sample({ROWS}, 1) has columns of another length",
    )
    same_values = all(_equal(one[name], same[name]) for name in problem.RAW)
    need(same_values, "sample", "the same seed gives other rows: draw everything from np.random.default_rng(seed)")
    need(not all(_equal(one[name], other[name]) for name in problem.RAW), "sample", "another seed gives the same rows")
    for row in itertools.islice(records(clean.clean("sample", one).columns), 20):
        try:
            problem.Record.model_validate_json(json.dumps(row))
        except ValueError as error:
            raise ProblemError("sample", f"the sample has {row}, which is no Record: {_short(error)}") from None
    return f"{ROWS} rows, the same for the same seed"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _equal(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(
        a == b or (a != a and b != b) for a, b in zip(one.tolist(), other.tolist(), strict=True)
    )


def target() -> str:
    """Check that the target is one number per row, and that few rows are dropped."""
    raw = problem.prepare(problem.sample(ROWS, 1))
    values = problem.target(raw)
    need(
        values.shape == (ROWS,) and values.dtype.kind == "f",
        "target",
        f"target gives shape {values.shape} of {values.dtype}, not ({ROWS},) of floats",
    )
    cleaned = clean.clean("sample", problem.sample(ROWS, 1))
    need(
        len(cleaned) > ROWS / 2,
        "sample",
        f"of {ROWS} rows of the sample only {len(cleaned)} can be used: {cleaned.dropped}",
    )
    if problem.TASK != "regression":
        found = np.unique(cleaned.target)
        need(
            np.array_equal(found, np.arange(len(found))) and len(found) > 1,
            "target",
            f"classes are {found[:5]}: number them 0, 1, ...",
        )
    return f"{len(cleaned)} of {ROWS} rows can be used"


def features() -> str:
    """Check that the input is one float32 row per record, the same alone and in a batch, and that no feature tells the target."""
    cleaned = clean.clean("sample", problem.sample(ROWS, 1))
    before = {name: values.copy() for name, values in cleaned.columns.items()}
    matrix = problem.features(cleaned.columns)
    expected = (len(cleaned), len(problem.FEATURES))
    need(
        matrix.shape == expected,
        "features",
        f"features gives shape {matrix.shape}, not {expected}: does FEATURES name each column?",
    )
    need(matrix.dtype == np.float32, "features", f"features gives {matrix.dtype}, not float32")
    need(not np.isinf(matrix).any(), "features", "features gives infinite numbers")
    need(all(_equal(before[name], cleaned.columns[name]) for name in before), "features", "features changes its input")
    alone = np.concatenate([problem.features(cleaned.take(slice(i, i + 1)).columns) for i in range(20)])
    need(
        np.array_equal(alone, matrix[:20], equal_nan=True),
        "features",
        "a record's features depend on the records beside it",
    )
    empty = problem.features(cleaned.take(slice(0)).columns)
    need(empty.shape == (0, expected[1]), "features", f"no record gives shape {empty.shape}")
    telling = clean.leaks(cleaned)
    need(
        not telling,
        "features",
        f"{telling[:1]} orders the target all but perfectly: it is known too late, or is the target",
    )
    return f"{expected[1]} features"


def round_trip() -> str:
    """Check that a small model can be trained, exported and called, and that its answers fit `Answer`."""
    cleaned = clean.clean("sample", problem.sample(ROWS, 1))
    settings = params.load()
    linear = settings.model_copy(update={"model": params.Model(estimator="linear"), "export": params.Export()})
    matrix = problem.features(cleaned.columns)
    estimator = estimators.fit(matrix, cleaned.target, linear)
    content, kept = export.export(estimator, linear, lambda line: None)
    classes = metrics.classes(cleaned.target) if problem.TASK != "regression" else 1
    card = {
        "features": list(problem.FEATURES),
        "record": problem.Record.model_json_schema(),
        "estimator": "linear",
        "classes": classes,
        "run_id": "check",
        "decision": settings.decision,
    } | kept
    predictor = Predictor(Bundle(content, card))
    difference = export.check_parity(
        export.scores(estimator, matrix), predictor.scores(cleaned.columns), 0.01 * (1 + np.ptp(cleaned.target))
    )
    answers = predictor.predict(cleaned.take(slice(3)).columns)
    version = answers.pop("model_version")
    wanted = list(problem.Answer.model_fields)
    need(list(answers) == wanted, "answer", f"answer gives {list(answers)}, Answer has {wanted}")
    for row in zip(*(values.tolist() for values in answers.values()), strict=True):
        try:
            problem.Answer.model_validate_json(json.dumps(dict(zip(wanted, row, strict=True))))
        except ValueError as error:
            raise ProblemError(
                "answer", f"answer gives {row}, which is no Answer: {' '.join(str(error).split())[:120]}"
            ) from None
    if problem.TASK == "regression":
        need(problem.TARGET in wanted, "Answer", f"Answer has no field {problem.TARGET}, which is what is measured")
    return f"exported as {kept['file']}, differs by at most {difference:.1g}, version {version[0]}"


STEPS: tuple[Callable[[], str], ...] = (names, record, sample, target, features, round_trip)


def line_of(name: str, source: Path) -> int:
    """The line of `source` that defines a name; 1 if none does."""
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        bound = [target for target in getattr(node, "targets", [getattr(node, "target", None)]) if target is not None]
        found = {getattr(node, "name", None)} | {
            part.id for target in bound for part in ast.walk(target) if isinstance(part, ast.Name)
        }
        if name in found:
            return node.lineno
    return 1


def check() -> Iterator[tuple[str, str, str]]:
    """Name, verdict and finding of each step; the steps after a failure are skipped."""
    source = Path(str(problem.__file__))
    for step in STEPS:
        name = step.__name__.replace("_", " ")
        try:
            yield name, "ok", step()
        except ProblemError as wrong:
            yield name, "FAIL", f"{source.name}:{line_of(wrong.name, source)}: {wrong}"
            return
        except ModelError as error:
            yield name, "FAIL", f"{source.name}:{line_of('answer', source)}: {error}"
            return
        except UserError as error:
            yield name, "FAIL", f"{source.name}: {error}"
            return
        except Exception as error:  # whatever the user's own code raises is reported with its line
            lines, trace = [1], error.__traceback__
            while trace is not None:
                lines += [trace.tb_lineno] if trace.tb_frame.f_code.co_filename == str(source) else []
                trace = trace.tb_next
            yield (
                name,
                "FAIL",
                f"{source.name}:{lines[-1]}: {type(error).__name__}: {_short(error)}",
            )
            return


def main() -> int:
    """`make check-problem`: try everything that the package needs from problem.py."""
    verdicts = []
    for name, verdict, found in check():
        print(f"{name:10} {verdict:4} {found}", file=sys.stderr if verdict == "FAIL" else sys.stdout, flush=True)
        verdicts.append(verdict)
    return 1 if "FAIL" in verdicts else 0
