"""Records as columns: the conversion between pydantic records, data files and the predictor."""

from __future__ import annotations

import typing
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import annotated_types
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, WithJsonSchema, create_model

from ..base.fields import DTYPES, WHOLE, Columns, plain
from ..problem import EXAMPLE, ID, Record

if TYPE_CHECKING:
    import pyarrow as pa

KNOWN = (annotated_types.Ge, annotated_types.Le, WithJsonSchema)
"""The constraints of a field that `violations` can check in columns."""


@dataclass(frozen=True)
class Field:
    """One field of a record as a column: its types, whether it may be missing, its bounds and its choices.

    `kind` is the type of its values (`int`, `float`, `bool`, `str`, `np.datetime64`), `dtype` the NumPy type of the column:
    integers and booleans that may be missing are stored as floats, so that a missing one is NaN. `day` is true if its
    times are dates. `plain` is true if these are all its rules, so that `violations` finds every value that `Record`
    would refuse.
    """

    name: str
    kind: type
    dtype: str
    required: bool
    least: float | None
    most: float | None
    choices: tuple[Any, ...]
    day: bool
    plain: bool


def _field(name: str) -> Field:
    info = Record.model_fields[name]
    given, marks = plain(info.annotation, list(info.metadata))
    least = next((mark.ge for mark in marks if isinstance(mark, annotated_types.Ge)), None)
    most = next((mark.le for mark in marks if isinstance(mark, annotated_types.Le)), None)
    choices = typing.get_args(given) if typing.get_origin(given) is typing.Literal else ()
    known = all(isinstance(mark, KNOWN) or mark == WHOLE for mark in marks)
    texts = given is str or (bool(choices) and all(isinstance(choice, str) for choice in choices))
    dtype = DTYPES.get(given, "object")
    kind = np.datetime64 if dtype == "datetime64[us]" else given if given in (int, float, bool) else str
    if not info.is_required() and kind in (int, bool):
        dtype = "float64"
    simple = known and (texts or given in DTYPES)
    bounds = typing.cast(Any, least), typing.cast(Any, most)
    return Field(name, kind, dtype, info.is_required(), *bounds, choices, given is date, simple)


Keyed: Any = create_model("Keyed", __base__=Record, **{ID: (str | int | None, None)})  # type: ignore[call-overload]
"""A record that may have an id, as services receive it."""

TRUE = "true_target"
"""The column with the target in a file of records; such a file needs no `problem.prepare` and no `problem.target`."""

FIELDS = tuple(_field(name) for name in Record.model_fields)
_COLUMNS = [(field.name, np.dtype(field.dtype)) for field in FIELDS]
_own = Record.__pydantic_decorators__
PLAIN = all(field.plain for field in FIELDS) and not any(
    (_own.validators, _own.field_validators, _own.model_validators, _own.root_validators)
)
"""Whether `violations` finds every record that `Record` would refuse; if not, `Record` checks each one."""


def columns(records: Sequence[Record]) -> dict[str, NDArray[Any]]:
    """Valid records as one array per field, each of shape (n,); a missing value is NaN, NaT or None."""
    return {name: np.array([getattr(record, name) for record in records], dtype) for name, dtype in _COLUMNS}


def reason(error: ValidationError) -> str:
    """Why a record was refused, in one line: its first bad field, what was expected, and how many more are bad."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(str(part) for part in found[0]["loc"]) or "(body)"
    return f"{where}: {found[0]['msg']}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


def violations(raw: Columns, needed: Collection[str] = ()) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """For each rule of `Record` a message and the rows, shape (n,), that break it; `columns` relies on these rules.

    `raw` has numbers as floats (NaN if missing), times as datetime64 and anything else as objects. Fields in
    `needed` may not be missing even if a client may leave them out.
    """
    for field in FIELDS:
        values = raw[field.name]
        gap = missing(values)
        if field.required or field.name in needed:
            yield f"{field.name} missing", gap
        if field.kind is int:
            yield f"{field.name} not a whole number", ~gap & (values != np.floor(values))
        if field.kind is float:
            yield f"{field.name} not finite", np.isinf(values)
        if field.day:
            yield f"{field.name} not a date", ~gap & (values != values.astype("datetime64[D]"))
        if field.choices:
            known = set(field.choices)
            strange = np.array([value not in known for value in values.tolist()], bool)
            yield f"{field.name} none of its values", ~gap & strange
        if field.least is not None:
            yield f"{field.name} under {field.least:g}", values < field.least
        if field.most is not None:
            yield f"{field.name} over {field.most:g}", values > field.most


def rules(described: Any) -> Any:
    """A JSON schema without titles and descriptions: only the rules for a record."""
    if isinstance(described, dict):
        said = {"title": str, "description": str, "examples": list}
        words = {name for name, kind in said.items() if isinstance(described.get(name), kind)}
        return {name: rules(each) for name, each in described.items() if name not in words}
    return [rules(each) for each in described] if isinstance(described, list) else described


def examples() -> Iterator[dict[str, Any]]:
    """`problem.EXAMPLE`, and records that differ from it in one field: each choice, each bound, other times, missing."""
    yield EXAMPLE
    for field in FIELDS:
        values = [*field.choices, field.least, field.most, *((True, False) if field.kind is bool else ())]
        if field.kind is np.datetime64 and EXAMPLE.get(field.name):
            start = datetime.fromisoformat(str(EXAMPLE[field.name]))
            values += [
                (start + number * timedelta(hours=29)).isoformat()[: 10 if field.day else None]
                for number in range(1, 8)
            ]
        for value in values:
            if value is not None:
                yield {**EXAMPLE, field.name: value}
        yield {name: value for name, value in EXAMPLE.items() if name != field.name}


def table(columns: Columns) -> pa.Table:
    """Columns as a table for a file: missing values are null, not NaN."""
    import pyarrow as pa  # not installed in a service's image

    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def refusals(columns: Columns) -> Iterator[str]:
    """Why `Record` refuses a row, for each of n; empty if it does not. Takes microseconds per row."""
    for row in table({field.name: columns[field.name] for field in FIELDS}).to_pylist():
        try:
            Record.model_validate({name: value for name, value in row.items() if value is not None}, strict=False)
            yield ""
        except ValidationError as error:
            yield reason(error)


def missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of n values are missing (NaN, NaT or None), shape (n,)."""
    test = {"M": np.isnat, "f": np.isnan}.get(values.dtype.kind)
    return np.asarray(test(values) if test else [value is None for value in values], bool)


def absent(field: Field, rows: int) -> NDArray[Any]:
    """The column of an optional field without any value, shape (rows,)."""
    empty = {"float64": np.nan, "datetime64[us]": np.datetime64("NaT")}
    return np.full(rows, empty.get(field.dtype), field.dtype)
