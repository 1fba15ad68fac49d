"""Write the generated sample to a file, to inspect it and to train on it; and rows as JSON records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet

from .. import problem
from ..base import params
from ..base.fields import Columns
from ..data import schema


def write_sample(settings: params.Data, *, drift: bool = False) -> Path:
    """Write the generated sample to `data/`, completely or not at all; returns its path."""
    path = params.ROOT / "data" / ("drifted.parquet" if drift else "sample.parquet")
    columns = problem.sample(settings.sample_rows, settings.seed, drift=drift)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    pyarrow.parquet.write_table(schema.table(columns), partial)
    partial.replace(path)
    return path


def records(columns: Columns) -> Iterator[dict[str, Any]]:
    """Columns of valid records as JSON records from a client, without missing values."""
    for row in schema.table(columns).to_pylist():
        yield problem.Record.model_validate(row, strict=False).model_dump(mode="json", exclude_none=True)


def main() -> None:
    """`make data`: write the generated sample to a file."""
    path = write_sample(params.load().data).relative_to(params.ROOT)
    print(f"wrote {path}; train on it: make train DATA={path}")
