"""A first `problem.py` from a file of data: types, ranges, choices, time and task, for a person to finish."""

from __future__ import annotations

import argparse
import importlib.util
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..base import params
from ..base.errors import UserError
from .inspect_data import Column, look, task

BUCKETS = 256
QUANTILES = np.linspace(0, 1, 11)


def draft(path: Path, target_name: str) -> str:
    """The text of a `problem.py` for the file at `path` whose column `target_name` is to be predicted.

    Raises:
        UserError: the file or the column will not do.
    """
    columns = look(path)
    known = {column.given: column for column in columns}
    if target_name not in known:
        raise UserError(f"TARGET={target_name!r}: {path.name} has {', '.join(known)[:300]}")
    target = known[target_name]
    kind, classes = task(target)
    rest = [column for column in columns if column is not target]
    names = [column.name for column in columns]
    if len(set(names)) < len(names):
        raise UserError(f"two columns are called {max(names, key=names.count)}: rename one")
    identifier = next(
        (c for c in rest if c.kind in ("str", "int") and len(set(c.values)) == len(c.values) and not c.choices), None
    )
    if identifier is not None and identifier.kind == "int" and "id" not in identifier.name:
        identifier = None
    fields = [c for c in rest if c is not identifier]
    if not fields:
        raise UserError(f"{path.name} has no column but the target: there is nothing to learn from")
    return "\n".join(_lines(path, target, kind, classes, fields, identifier)) + "\n"


def _lines(
    path: Path, target: Column, kind: str, classes: list[Any], fields: list[Column], identifier: Column | None
) -> Iterator[str]:
    """The draft, part by part."""
    time = next((c.name for c in fields if c.kind == "time" and not c.missing), "")
    categories = [c for c in fields if c.kind == "str"]
    yield f'"""A first draft from {path.name}: what the project predicts, and from what. Read it, and make it right."""'
    yield "\nfrom __future__ import annotations\n"
    yield "from collections.abc import Callable, Mapping\nfrom typing import Annotated, Any, Literal\n"
    yield "import numpy as np\nfrom numpy.typing import NDArray\nfrom pydantic import BaseModel, ConfigDict, Field\n"
    yield "from .base.fields import WHOLE, LocalTime, choices, codes, hashed\n"
    yield "Columns = Mapping[str, NDArray[Any]]\n"
    yield f'TITLE = "What will {target.name} be?"\nTASK = "{kind}"\nTARGET = "predicted_{target.name}"\nUNIT = ""'
    yield f'TIME = "{time}"\nID = "{identifier.name if identifier else "id"}"'
    yield f'METRIC = "{ {"regression": "rmse", "binary": "roc_auc", "multiclass": "log_loss"}[kind] }"'
    if classes:
        yield f"CLASSES = {tuple(classes)!r}"
    yield '\n\nclass Record(BaseModel):\n    """What is known when a prediction is asked for. Remove what is known only later."""\n'
    yield "    model_config = ConfigDict(strict=True, allow_inf_nan=False)\n"
    yield from (f"    {column.name}: {_type(column)}" for column in sorted(fields, key=lambda c: c.missing))
    yield '\n\nclass Answer(BaseModel):\n    """What the model says of one record."""\n'
    if kind == "regression":
        yield f"    predicted_{target.name}: float"
    elif kind == "binary":
        yield f"    {target.name}_probability: float\n    predicted_{target.name}: bool"
    else:
        yield f"    predicted_{target.name}: {'str' if isinstance(classes[0], str) else 'float'}\n    probability: float"
    example = {
        c.name: _plain(next(v for v in c.values if v is not None))
        for c in fields
        if any(v is not None for v in c.values)
    }
    yield f"\n\nEXAMPLE: dict[str, Any] = {example!r}\n"
    features = [c.name for c in fields if c.kind != "time"] + [
        f"{c.name}_{part}" for c in fields if c.kind == "time" for part in ("hour", "weekday")
    ]
    yield f"CATEGORIES: tuple[str, ...] = {tuple(c.name for c in categories)!r}\nFEATURES = {tuple(features)!r}"
    numbers = [c.name for c in fields if c.kind in ("int", "float")]
    yield f"SEGMENTS: tuple[str, ...] = {tuple(numbers[:1])!r}\n\n"
    yield "def features(columns: Columns) -> NDArray[np.float32]:"
    yield f'    """The model\'s input, shape (n, {len(features)}): numbers as they are, the place of a choice, hours and weekdays of times."""'
    yield "    parts = {"
    yield from (f'        "{c.name}": {_feature(c)},' for c in fields if c.kind != "time")
    for column in fields:
        if column.kind == "time":
            hours = f'hours(columns["{column.name}"])'
            yield f'        "{column.name}_hour": {hours} % 24,\n        "{column.name}_weekday": {hours} // 24 % 7,'
    yield "    }\n    return np.column_stack([np.asarray(parts[name], np.float32) for name in FEATURES])\n\n"
    if any(c.kind == "time" for c in fields):
        yield "def hours(times: NDArray[Any]) -> NDArray[np.float64]:"
        yield '    """Hours since a Monday at midnight, shape (n,); NaN where the time is missing."""'
        yield "    return np.where(np.isnat(times), np.nan, (times - MONDAY).astype(np.int64) / 3.6e9)\n\n"
    yield from _answer(target, kind, classes)
    yield 'SOURCE = ""'
    types = {"str": "str", "int": "int", "float": "float", "bool": "bool", "time": "np.datetime64"}
    yield "RAW: dict[str, type] = {" + ", ".join(f'"{c.name}": {types[c.kind]}' for c in (*fields, target)) + "}"
    yield f"ALIASES: dict[str, str] = { {c.given: c.name for c in (*fields, target) if c.given != c.name}!r}"
    yield "TARGET_RULES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]] = {}\n\n"
    yield 'def prepare(raw: Columns) -> Columns:\n    """The columns of a file as `Record` spells them."""\n    return raw\n\n'
    yield "def target(raw: Columns) -> NDArray[np.float64]:"
    yield '    """The number, or the place of the class in `CLASSES`, shape (n,); NaN where it is not known."""'
    if classes:
        yield "    place = {value: float(number) for number, value in enumerate(CLASSES)}"
        yield f'    return np.array([place.get(value, np.nan) for value in raw["{target.name}"].tolist()])\n\n'
    else:
        yield f'    return np.asarray(raw["{target.name}"], np.float64)\n\n'
    yield from _sample(target, kind, classes, fields)


def _type(column: Column) -> str:
    values = [value for value in column.values if value is not None]
    optional, default = (" | None", " = None") if column.missing else ("", "")
    if column.choices:
        return f"Literal[{', '.join(repr(choice) for choice in column.choices)}]{optional}{default}"
    if column.kind in ("int", "float"):
        # A little more room than was seen: tomorrow's values are not yesterday's.
        least, most = (min(values), max(values)) if values else (0, 0)
        room = max(abs(least), abs(most), 1)
        low = 0 if least >= 0 else math.floor(least - room)
        bounds = f"Field({'None, ' if column.missing else ''}ge={low}, le={math.ceil(most + room)})"
        if column.kind == "int":
            return f"Annotated[int{optional}, {bounds.replace('None, ', '')}, WHOLE]{default}"
        return f"float{optional} = {bounds}"
    return {"bool": "bool", "time": "LocalTime"}.get(column.kind, "str") + optional + default


def _feature(column: Column) -> str:
    if column.choices:
        return f'codes(columns["{column.name}"], choices(Record, "{column.name}"))'
    return f'hashed(columns["{column.name}"], {BUCKETS})' if column.kind == "str" else f'columns["{column.name}"]'


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _answer(target: Column, kind: str, classes: list[Any]) -> Iterator[str]:
    given = ", *, threshold: float = 0.5" if kind == "binary" else ""
    yield f"def answer(scores: NDArray[np.float32]{given}) -> dict[str, NDArray[Any]]:"
    yield '    """The model\'s scores as the fields of `Answer`."""'
    if kind == "regression":
        yield f'    return {{"predicted_{target.name}": scores.astype(np.float64).round(6)}}\n\n'
    elif kind == "binary":
        yield "    probability = scores.astype(np.float64).round(6)"
        yield f'    return {{"{target.name}_probability": probability, "predicted_{target.name}": probability >= threshold}}\n\n'
    else:
        form = "object" if isinstance(classes[0], str) else "float"
        yield f"    best = np.array(CLASSES, {form})[scores.argmax(axis=1)]"
        yield f'    return {{"predicted_{target.name}": best, "probability": scores.max(axis=1).astype(np.float64).round(6)}}\n\n'


def _sample(target: Column, kind: str, classes: list[Any], fields: list[Column]) -> Iterator[str]:
    """A generator that draws each column by itself from what was seen in it, given the target's class or quarter."""
    values = np.array(
        [np.nan if value is None else classes.index(value) if classes else value for value in target.values], float
    )
    known = ~np.isnan(values)
    edges = np.quantile(values[known], [0.25, 0.5, 0.75]) if not classes else []
    groups = np.where(known, values, 0).astype(int) if classes else np.searchsorted(edges, np.nan_to_num(values))
    count = len(classes) or 4
    shares = [round(float(np.mean(groups[known] == group)), 4) for group in range(count)]
    seen: dict[str, list[list[Any]]] = {}
    for column in fields:
        seen[column.name] = [
            _seen(column, [v for v, g, k in zip(column.values, groups, known, strict=True) if g == group and k])
            for group in range(count)
        ]
    if not classes:
        seen[target.name] = [
            _seen(target, [float(v) for v in values[known & (groups == group)]]) for group in range(count)
        ]
    yield "# What was seen of each column, by class or by quarter of the target: quantiles of numbers, and of others some values."
    yield f"SHARES = {shares}\nSEEN: dict[str, list[list[Any]]] = {seen!r}"
    yield 'MONDAY = np.datetime64("2024-01-01", "us")\n\n'
    yield "def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:"
    yield '    """Invented rows with the columns of `RAW`: each column by itself, given the target. Better ones know how columns hang together."""'
    yield "    rng = np.random.default_rng(seed)"
    yield "    group = rng.choice(len(SHARES), rows, p=np.array(SHARES) / sum(SHARES))"
    yield "    found: dict[str, NDArray[Any]] = {}"
    yield "    for name, seen in SEEN.items():"
    yield "        place = rng.random(rows)"
    yield "        if RAW[name] in (int, float, np.datetime64):"
    yield "            drawn = np.array([np.interp(p, np.linspace(0, 1, len(seen[g])), seen[g]) for p, g in zip(place, group, strict=True)])"
    yield "            drawn = drawn.round() if RAW[name] is int else drawn"
    yield '            found[name] = drawn.astype("datetime64[us]") if RAW[name] is np.datetime64 else drawn'
    yield "        else:"
    yield "            found[name] = np.array([seen[g][int(p * len(seen[g]))] for p, g in zip(place, group, strict=True)], object)"
    if classes:
        yield f'    found["{target.name}"] = np.array(CLASSES, object)[group]'
        if target.kind in ("int", "float"):
            yield f'    found["{target.name}"] = found["{target.name}"].astype(float)'
    yield "    return found"


def _seen(column: Column, values: list[Any]) -> list[Any]:
    known = [value for value in values if value is not None] or [value for value in column.values if value is not None][
        :1
    ]
    if column.kind in ("int", "float"):
        return [float(f"{value:.6g}") for value in np.quantile(known, QUANTILES)]
    if column.kind == "time":
        numbers = np.array(known, "datetime64[us]").astype(np.int64)
        return [int(value) for value in np.quantile(numbers, QUANTILES)]
    return sorted(known, key=str)[:: max(len(known) // 40, 1)]


def _tidy(path: Path) -> None:
    """Let ruff sort and break the lines, where it is installed."""
    if importlib.util.find_spec("ruff"):
        for words in (["check", "--quiet", "--fix", "--select", "I,F401"], ["format", "--quiet"]):
            command = [sys.executable, "-m", "ruff", *words, "--extension", "partial:python", str(path)]
            subprocess.run(command, cwd=params.ROOT, check=False)


def main() -> None:
    """`make problem`: draft problem.py from FROM, a CSV or Parquet file, whose column TARGET is to be predicted."""
    parser = argparse.ArgumentParser(prog="make problem", description=main.__doc__)
    parser.add_argument("--source", type=Path, required=True, help="CSV or Parquet file (FROM=data.csv)")
    parser.add_argument("--target", required=True, help="the column to predict (TARGET=column)")
    given = parser.parse_args()
    text = draft(given.source, given.target)
    path = params.PACKAGE / "problem.py"
    before = params.ROOT / ".cache" / "problem.before.py"
    before.parent.mkdir(exist_ok=True)
    shutil.copy(path, before)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    _tidy(partial)
    partial.replace(path)
    print(f"wrote {path.relative_to(params.ROOT)}; the one before is {before.relative_to(params.ROOT)}")
    if params.load().decision and task(next(c for c in look(given.source) if c.given == given.target))[0] != "binary":
        print("remove the settings of [decision] from params.toml: this problem decides nothing")
    print(f"read it, then: make check-problem, and make train DATA={given.source}")
