"""The text of a problem.py for columns of data, and the statistics of each column for its sample."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from .columns import Column

QUANTILES = np.linspace(0, 1, 11)
TEXTS = 40
"""The maximum number of texts per column in the sample's statistics, for each group of the target."""

STEPS = {"int": 1, "time": 1_000_000, "day": 86_400_000_000}
"""What drawn values are rounded to: whole numbers, seconds and days as microseconds."""

METRICS = {"regression": "rmse", "binary": "roc_auc", "multiclass": "log_loss"}


@dataclass(frozen=True)
class Plan:
    """What is predicted from what: the decisions that the draft is based on."""

    source: str
    target: Column
    task: str
    classes: list[Any]
    fields: list[Column]
    time: str
    identifier: str
    title: str = ""
    unit: str = ""

    @property
    def answer(self) -> str:
        """The field of an answer that is compared with the truth."""
        return f"predicted_{self.target.name}"


def problem(plan: Plan) -> str:
    """The text of problem.py."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    target, name = plan.target, plan.target.name
    whole = any(column.kind == "int" for column in plan.fields)
    times = any(column.kind == "time" for column in plan.fields)
    imports = ["WHOLE"] * whole + ["Columns", "Fields"] + ["LocalTime"] * times + ["drawn"]
    yield f'"""What this project predicts, and from what: {_plain(target.given)}, drafted from {_plain(plan.source)}."""\n'
    yield "from __future__ import annotations\n\nfrom collections.abc import Callable"
    yield "from datetime import date" if any(column.kind == "day" for column in plan.fields) else ""
    yield "from pathlib import Path\nfrom typing import Annotated, Any, Literal\n\nimport numpy as np"
    yield "from numpy.typing import NDArray\nfrom pydantic import BaseModel, ConfigDict, Field\n"
    yield f"from .base.fields import {', '.join(imports)}\n"
    yield f"TITLE = {_quoted(plan.title or f'What will {target.given} be?')}\nTASK = {_quoted(plan.task)}"
    yield f"TARGET = {_quoted(plan.answer)}\nUNIT = {_quoted(plan.unit)}\nTIME = {_quoted(plan.time)}"
    yield f"ID = {_quoted(plan.identifier)}\nMETRIC = {_quoted(METRICS[plan.task])}"
    if plan.classes:
        yield f"CLASSES: tuple[Any, ...] = {tuple(plan.classes)!r}"
    yield '\n\nclass Record(BaseModel):\n    """The fields that are known at prediction time, one per line; remove those known only later."""\n'
    yield "    model_config = ConfigDict(strict=True, allow_inf_nan=False)\n"
    yield from (_field(column) for column in plan.fields)
    yield '\n\nclass Answer(BaseModel):\n    """The model\'s answer for one record."""\n'
    if plan.task == "regression":
        yield f"    {plan.answer}: float"
    elif plan.task == "binary":
        yield f"    {name}_probability: float\n    {plan.answer}: bool"
    else:
        yield f"    {plan.answer}: {'str' if isinstance(plan.classes[0], str) else 'float'}\n    probability: float"
    yield "\n\nFIELDS = Fields(Record)"
    yield "EXAMPLE, FEATURES, CATEGORIES = FIELDS.example, FIELDS.names, FIELDS.categories\nSEGMENTS = FEATURES[:2]\n\n"
    yield "def features(columns: Columns) -> NDArray[np.float32]:"
    yield '    """The model\'s input, shape (n, features); see `Fields` for what each field becomes."""'
    yield "    return FIELDS.features(columns)\n\n"
    yield from _answer(plan)
    kind = {"str": "str", "int": "int", "float": "float", "bool": "bool"}[target.kind]
    alias = f" | {{{_quoted(target.given)}: {_quoted(name)}}}" if target.given != name else ""
    yield f'SOURCE = ""\nRAW: dict[str, type] = {{**FIELDS.raw, "{name}": {kind}}}\nALIASES = FIELDS.aliases{alias}'
    yield "TARGET_RULES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]] = {}\n\n"
    yield 'def prepare(raw: Columns) -> Columns:\n    """The columns of a file as `Record` spells them."""\n    return raw\n\n'
    yield "def target(raw: Columns) -> NDArray[np.float64]:"
    if plan.classes:
        yield '    """The place of each row\'s class in `CLASSES`, shape (n,); NaN where it is not known."""'
        yield "    place = {value: float(number) for number, value in enumerate(CLASSES)}"
        yield f'    return np.array([place.get(value, np.nan) for value in raw["{name}"].tolist()])\n\n'
    else:
        yield '    """The true value, shape (n,); NaN where it is not known."""'
        yield f'    return np.asarray(raw["{name}"], np.float64)\n\n'
    yield "def sample(rows: int, seed: int, *, drift: bool = False) -> dict[str, NDArray[Any]]:"
    yield '    """Invented rows with the columns of `RAW`, each column drawn from its own values, without dependences between them."""'
    yield '    return drawn(Path(__file__).with_name("problem.json"), RAW, rows, seed, drift)'


def _plain(text: str) -> str:
    return text.replace("\\", "/").replace('"', "'").replace("\n", " ")


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _field(column: Column) -> str:
    """A field of the record with all its constraints in one line."""
    optional, default = (" | None", " = None") if column.missing else ("", "")
    said = [f"title={_quoted(column.given)}"] if column.given != column.name else []
    if column.kind in ("int", "float"):
        # The bounds are a little wider than the data: future values differ.
        room = max(abs(column.least), abs(column.most), 1)
        said += [
            f"ge={0 if column.least >= 0 else math.floor(column.least - room)}, le={math.ceil(column.most + room)}"
        ]
    said += [f"examples=[{_quoted(_example(column))}]"]
    kinds = {"day": "date", "time": "LocalTime"}
    kind = (
        f"Literal[{', '.join(map(_quoted, column.choices))}]" if column.choices else kinds.get(column.kind, column.kind)
    )
    marks = [f"Field({', '.join(said)})", *(["WHOLE"] if column.kind == "int" else [])]
    return f"    {column.name}: Annotated[{kind}{optional}, {', '.join(marks)}]{default}"


def _example(column: Column) -> Any:
    """The median, or the most frequent value, as JSON."""
    if column.kind in ("str", "bool"):
        return max(sorted(set(column.known)), key=column.known.count) if column.distinct <= 100 else column.known[0]
    middle = sorted(column.known)[len(column.known) // 2]
    if isinstance(middle, datetime):
        return middle.isoformat()[: 10 if column.kind == "day" else 19]
    return int(middle) if column.kind == "int" else float(f"{middle:.6g}")


def _answer(plan: Plan) -> Iterator[str]:
    given = ", *, threshold: float = 0.5" if plan.task == "binary" else ""
    yield f"def answer(scores: NDArray[np.float32]{given}) -> dict[str, NDArray[Any]]:"
    yield '    """The model\'s scores as the fields of `Answer`."""'
    if plan.task == "regression":
        yield f'    return {{"{plan.answer}": scores.astype(np.float64).round(6)}}\n\n'
    elif plan.task == "binary":
        yield "    probability = scores.astype(np.float64).round(6)"
        yield f'    return {{"{plan.target.name}_probability": probability, "{plan.answer}": probability >= threshold}}\n\n'
    else:
        form = "object" if isinstance(plan.classes[0], str) else "float"
        yield f"    best = np.array(CLASSES, {form})[scores.argmax(axis=1)]"
        yield f'    return {{"{plan.answer}": best, "probability": scores.max(axis=1).astype(np.float64).round(6)}}\n\n'


def seen(plan: Plan) -> dict[str, Any]:
    """The statistics for `fields.drawn`: for each column quantiles or some texts, by class or by quarter of the target."""
    target = plan.target
    if plan.classes:
        groups = np.array([plan.classes.index(value) if value is not None else -1 for value in target.values])
    else:
        known = target.numbers[~np.isnan(target.numbers)]
        quarters = np.searchsorted(np.quantile(known, [0.25, 0.5, 0.75]), np.nan_to_num(target.numbers))
        groups = np.where(np.isnan(target.numbers), -1, quarters)
    count = len(plan.classes) or 4
    columns = {
        column.name: {
            "step": STEPS.get(column.kind, 0),
            "missing": round(column.missing / column.rows, 4) if column is not target else 0,
            "seen": [
                _seen(column, [value for value, at in zip(column.values, groups, strict=True) if at == group])
                for group in range(count)
            ],
        }
        for column in (*plan.fields, target)
    }
    shares = [round(float(np.mean(groups[groups >= 0] == group)), 4) for group in range(count)]
    return {"target": target.name, "shares": shares, "columns": columns}


def _seen(column: Column, values: list[Any]) -> list[Any]:
    known = [value for value in values if value is not None] or column.known[:1]
    if column.kind in ("int", "float"):
        return [float(f"{value:.6g}") for value in np.quantile(known, QUANTILES)]
    if column.kind in ("time", "day"):
        numbers = np.array(known, "datetime64[us]").astype(np.int64)
        return [int(value) for value in np.quantile(numbers, QUANTILES)]
    return sorted(known, key=str)[:: max(math.ceil(len(known) / TEXTS), 1)]
