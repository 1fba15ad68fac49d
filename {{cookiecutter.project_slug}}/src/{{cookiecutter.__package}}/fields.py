"""Types for the fields of a record that JSON and data files both know."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, NaiveDatetime, WithJsonSchema


def whole(value: Any) -> Any:
    """74.0 as 74: JSON has one kind of number, and clients that hold numbers as floats mean the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
"""Marks an `int` that may be written with a point. It comes last: bounds before it are in the JSON schema too."""

LocalTime = Annotated[NaiveDatetime, WithJsonSchema({"type": "string", "format": "date-time-local"})]
"""A date and a time of day where the record is from, without an offset."""
