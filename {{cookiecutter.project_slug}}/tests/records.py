"""Records of whatever the project predicts, good and bad ones, made from what `problem.py` says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import clean, schema
from {{ cookiecutter.__package }}.tools.write_sample import records as records_of

ANSWER = list(problem.Answer.model_fields)
"""The fields of an answer."""

REQUIRED = [field for field in schema.FIELDS if field.required]
FIRST_REQUIRED = sorted(schema.FIELDS, key=lambda field: not field.required)
RULED = [field for field in FIRST_REQUIRED if field.least is not None or field.choices]
"""Fields that have a rule which a value of the right type can break."""

BOUNDED = (RULED or FIRST_REQUIRED)[0]
"""One of them, if there is one."""

needs_a_rule = pytest.mark.skipif(not RULED, reason="no field of this problem has bounds or choices")


def several(count: int, seed: int = 3) -> list[dict[str, Any]]:
    """So many different records, as a client sends them."""
    columns = clean.clean("sample", problem.sample(count * 2, seed)).take(slice(count)).columns
    return list(records_of(columns))


def broken(field: schema.Field) -> Any:
    """A value of the field's own type that breaks its rule; where it has none, a value of another type."""
    if field.least is None and not field.choices:
        return wrong(field)[0]
    return "nothing of the kind" if field.choices else field.kind(field.least - 1)


def wrong(field: schema.Field) -> list[Any]:
    """Values that the field must not have."""
    values: dict[type, list[Any]] = {
        int: ["7", 7.5, True],
        float: ["far"],
        bool: ["perhaps"],
        str: [7],
        np.datetime64: ["yesterday", "2024-01-10T08:30:00Z"],
    }
    bounds = [field.kind(field.least - 1)] if field.least is not None else []
    bounds += [field.kind(field.most + 1)] if field.most is not None else []
    return [*values[field.kind], *bounds, *(["nothing of the kind"] if field.choices else [])]


DIFFERENT = {(field.kind, field.required, field.least, field.most, field.choices): field for field in schema.FIELDS}
"""A field of each kind of rule: of many alike one is enough."""

WRONG = [(field.name, value) for field in DIFFERENT.values() for value in wrong(field)]
"""Name of a field, and a value that it must not have."""
