"""Scores a batch of rows: returns the rows with their predictions, and the rows that the record's rules refuse."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from .. import problem
from ..base.errors import UserError
from ..base.fields import Columns
from ..data import read, schema
from ..model.predictor import Predicts
from .tables import BadLine

RECORD = TypeAdapter(problem.Record)


class SchemaError(UserError):
    """A column that the model needs is missing, has the wrong type, or conflicts with a field of the answer."""


@dataclass(frozen=True)
class Scored:
    """The result of a batch: every row is in one of the two."""

    accepted: pa.RecordBatch
    rejected: pa.RecordBatch


class Scorer:
    """Scores batches that share a schema; threads may share it.

    Args:
        predictor: the model.
        given: the schema of the batches.
        scored_at: the time that is written to each row, with its time zone.
        text: the columns with text that has not been parsed, such as those of a CSV file.
        written: the dialect of numbers and dates in such text.
        additions: the names of what is added to scored rows, from those that the predictor offers.

    Attributes:
        accepted: the schema of scored rows: the given columns, the answer's fields, `model_version` and `scored_at`.
        rejected: the schema of refused rows: `row_number`, `reason` and the given columns.

    Raises:
        SchemaError: the batches lack a column, or have one that the answer would replace.
    """

    def __init__(
        self,
        predictor: Predicts,
        given: pa.Schema,
        scored_at: datetime,
        text: Collection[str] = (),
        additions: Sequence[str] = (),
        written: read.Dialect = read.STANDARD,
    ) -> None:
        self._predictor, self._scored_at, self._text, self._written = predictor, scored_at, text, written
        self._additions = [predictor.additions[name] for name in additions]
        there = {problem.ALIASES.get(name, name): name for name in given.names}
        self._columns = {field.name: there.get(field.name) for field in schema.FIELDS}
        for field in schema.FIELDS:
            if field.required and field.name not in there:
                raise SchemaError(f"there is no column {field.name}; there are {', '.join(given.names[:12])}")
        for name in (problem.ID, *self._columns.values()):
            if given.names.count(name) > 1:
                raise SchemaError(f"the column {name} is there twice: leave one of the two out")
        answers = self._answers({field.name: schema.absent(field, 0) for field in schema.FIELDS})
        added = [pa.field(name, _answer(values).type) for name, values in answers.items()]
        added.append(pa.field("scored_at", pa.timestamp("us", "UTC")))
        # A training file has the target already: it is kept beside the prediction.
        renamed = {problem.TARGET: f"given_{problem.TARGET}"} if problem.TARGET in answers else {}
        names = [renamed.get(name, name) for name in given.names]
        for name in (*(field.name for field in added), *renamed.values(), "row_number", "reason"):
            if names.count(name) > (name in renamed.values()):
                raise SchemaError(f"the column {name} is there already, and scoring would write it: rename it")
        typed = {
            self._columns[field.name]: pa.from_numpy_dtype(field.dtype)
            for field in schema.FIELDS
            if self._columns[field.name] in text and field.kind is not str
        }
        kept = [each.with_type(typed[each.name]) if each.name in typed else each for each in given]
        self.accepted = pa.schema([*(each.with_name(name) for each, name in zip(kept, names, strict=True)), *added])
        self.rejected = pa.schema([pa.field("row_number", pa.int64()), pa.field("reason", pa.string()), *given])

    def __call__(self, batch: pa.RecordBatch, numbers: pa.Array) -> Scored:
        """Score a batch of n rows; `numbers`, n of them, are the row numbers in the source, if known.

        Raises:
            SchemaError: a column has a type that cannot hold its field.
        """
        keep, columns, rejected = self.sift(batch, numbers)
        return Scored(self._accept(batch if keep.all() else batch.filter(pa.array(keep)), columns), rejected)

    def sift(
        self, batch: pa.RecordBatch, numbers: pa.Array
    ) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]], pa.RecordBatch]:
        """Which rows of a batch are valid, shape (n,); those as columns; and the others with their reasons."""
        given = {field.name: self._given(batch, field) for field in schema.FIELDS}
        held = {field.name: self._held(given[field.name], field) for field in schema.FIELDS}
        try:
            raw = {field.name: self._raw(held[field.name], field, batch) for field in schema.FIELDS}
        except UserError as error:
            raise SchemaError(str(error)) from None
        suspect = np.zeros(batch.num_rows, bool) if schema.PLAIN else np.ones(batch.num_rows, bool)
        for _, broken in schema.violations(raw):
            suspect |= broken
        for field in schema.FIELDS:
            # NaN in a column of numbers is not the same as a missing value.
            values, said = held[field.name], given[field.name]
            if values is not None and pa.types.is_floating(values.type):
                suspect |= np.isnan(raw[field.name]) & np.asarray(values.is_valid())
            if values is not None and said is not None and self._columns[field.name] in self._text:
                suspect |= np.asarray(said.is_valid()) & np.asarray(values.is_null())
        keep, records, reasons = ~suspect, {}, {}
        dated = [field.name for field in schema.FIELDS if field.kind is np.datetime64]
        times = [
            (name, values) for name in dated if (values := given[name]) is not None and pa.types.is_string(values.type)
        ]
        for row in np.flatnonzero(suspect).tolist():
            if number := next((name for name, values in times if str(values[row]).strip().isdecimal()), ""):
                # pydantic reads a number as seconds since 1970; the unit of a number in a file is unknown.
                reasons[row] = f"{number}: Input should be a date or a time, not a number"
                continue
            try:
                records[row] = RECORD.validate_json(self._json(given, held, row))
                keep[row] = True
            except ValidationError as error:
                reasons[row] = schema.reason(error)
        if schema.PLAIN:
            columns = {field.name: raw[field.name][keep].astype(field.dtype) for field in schema.FIELDS}
            # A value that only pydantic could parse is taken from the record.
            places = np.searchsorted(np.flatnonzero(keep), list(records))
            for name, values in schema.columns(list(records.values())).items() if records else ():
                columns[name][places] = values
        else:
            columns = schema.columns(list(records.values()))
        gone = pa.array(np.flatnonzero(~keep))
        refused = batch.take(gone)
        why = [numbers.take(gone).cast(pa.int64()), pa.array(list(reasons.values()), pa.string())]
        return keep, columns, pa.RecordBatch.from_arrays([*why, *refused.columns], schema=self.rejected)

    def unreadable(self, lines: Sequence[BadLine]) -> pa.RecordBatch:
        """Lines of a CSV file that do not have the header's number of columns, as rejected rows."""
        reasons = [f"the line has {line.columns} columns, not {line.expected}: {line.text}" for line in lines]
        nothing = [pa.nulls(len(lines), each.type) for each in list(self.rejected)[2:]]
        why = [pa.array([line.number for line in lines], pa.int64()), pa.array(reasons, pa.string())]
        return pa.RecordBatch.from_arrays([*why, *nothing], schema=self.rejected)

    def nothing(self) -> pa.RecordBatch:
        """An empty batch in the schema of scored rows."""
        return pa.RecordBatch.from_arrays([pa.nulls(0, each.type) for each in self.accepted], schema=self.accepted)

    def _given(self, batch: pa.RecordBatch, field: schema.Field) -> pa.Array | None:
        """A field's values from the batch, if it has them; markers for missing values in unparsed text become null."""
        name = self._columns[field.name]
        if name is None:
            return None
        values = batch.column(name)
        return read.present(values) if name in self._text and field.kind is not str else values

    def _held(self, given: pa.Array | None, field: schema.Field) -> pa.Array | None:
        """The same values converted to the type in which they are checked; what cannot be converted is missing."""
        typed = given is None or field.kind is str or self._columns[field.name] not in self._text
        return given if typed else read.parsed(given, field.kind, self._written)

    def _raw(self, values: pa.Array | None, field: schema.Field, batch: pa.RecordBatch) -> NDArray[Any]:
        if values is None:
            return schema.absent(field, batch.num_rows)
        return read.column(values, str(self._columns[field.name]), field.kind)

    def _json(self, given: Mapping[str, pa.Array | None], held: Mapping[str, pa.Array | None], row: int) -> str:
        """The row as JSON from a client, so that it is refused with the same message; text that cannot be parsed stays text."""
        fields = {}
        for field in schema.FIELDS:
            values, said = held[field.name], given[field.name]
            if values is None or said is None:
                continue
            value = values[row].as_py()
            value = said[row].as_py() if value is None else value
            value = None if isinstance(value, str) and not value.strip() else value
            if field.day and isinstance(value, datetime) and value.time() == time():
                value = value.date()
            whole = field.kind is int and isinstance(value, float) and value.is_integer()
            fields[field.name] = int(value) if whole else value
            if value is None and not field.required:
                del fields[field.name]
        return json.dumps(fields, default=lambda value: value.isoformat() if isinstance(value, date) else str(value))

    def _answers(self, columns: Columns) -> dict[str, NDArray[Any]]:
        answers = self._predictor.predict(columns)
        for addition in self._additions:
            answers |= addition.columns(columns)
        return answers

    def _accept(self, batch: pa.RecordBatch, columns: dict[str, NDArray[Any]]) -> pa.RecordBatch:
        ids = {problem.ID: _ids(batch.column(problem.ID))} if problem.ID in batch.schema.names else {}
        answers = [_answer(values) for values in self._answers(columns | ids).values()]
        names = {given: field for field, given in self._columns.items()}
        kept = [
            values
            if values.type == wanted.type
            else pa.array(columns[names[wanted.name]], wanted.type, from_pandas=True)
            for values, wanted in zip(batch.columns, self.accepted, strict=False)
        ]
        times = pa.repeat(pa.scalar(self._scored_at, pa.timestamp("us", "UTC")), batch.num_rows)
        return pa.RecordBatch.from_arrays([*kept, *answers, times], schema=self.accepted)


def _ids(given: pa.Array) -> NDArray[Any]:
    # Python's range of dates is smaller than Arrow's.
    values = given.cast(pa.string()) if pa.types.is_temporal(given.type) else given
    return np.array(values.to_pylist(), object)


def _answer(values: NDArray[Any]) -> pa.Array:
    return pa.array(values, pa.string() if values.dtype == object else None, from_pandas=True)
