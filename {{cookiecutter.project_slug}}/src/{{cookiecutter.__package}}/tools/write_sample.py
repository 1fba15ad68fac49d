"""Write the generated sample to a file, to look at it and to train on it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet

from .. import problem
from ..base import params
from ..data import read


def write_sample(settings: params.Data, *, drift: bool = False) -> Path:
    """Write the generated sample to `data/`, whole or not at all; gives its path."""
    path = params.ROOT / "data" / ("drifted.parquet" if drift else "sample.parquet")
    columns = problem.sample(settings.sample_rows, settings.seed, drift=drift)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    pyarrow.parquet.write_table(read.table(columns), partial)
    partial.replace(path)
    return path


def main() -> None:
    """`make data`: write the generated sample to a file."""
    path = write_sample(params.load().data).relative_to(params.ROOT)
    print(f"wrote {path}; train on it: make train DATA={path}")
