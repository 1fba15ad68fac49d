"""Read what a model learns from, a file or the generated sample, as columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from .. import problem
from ..base import params
from ..base.errors import UserError

SAMPLE = "generated sample"
TYPES = {
    int: (pa.float64(), "whole numbers"),
    float: (pa.float64(), "numbers"),
    bool: (pa.bool_(), "true or false"),
    np.datetime64: (pa.timestamp("us"), "local times without an offset"),
    str: (pa.string(), "text"),
}
"""How a column is held while it is checked, and what it should hold: numbers are floats, so that a missing one is NaN."""


def rows(settings: params.Data, source: str = "") -> tuple[str, dict[str, NDArray[Any]]]:
    """The name and the columns of the file `source`, else of `settings.source`, else of the generated sample.

    Raises:
        UserError: the file is missing, damaged, or lacks a column.
    """
    source = source or settings.source
    return (source, read(Path(source))) if source else (SAMPLE, problem.sample(settings.sample_rows, settings.seed))


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of `problem.RAW` from a Parquet or CSV file, each of shape (n,), under their own names.

    Raises:
        UserError: the file is missing or damaged, or a column is missing or has the wrong type.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: check DATA=, or leave it out to train on the generated sample")
    form = {".parquet": "parquet", ".csv": "csv"}.get(path.suffix.lower())
    if form is None:
        raise UserError(f"{path}: only .parquet and .csv files can be read")
    from pyarrow import dataset  # it imports pandas, which a scoring job does without

    try:
        file = dataset.dataset(path, format=form)
        given = {problem.ALIASES.get(name, name): name for name in file.schema.names}
        missing = [name for name in problem.RAW if name not in given]
        if missing:
            raise UserError(f"{path} has no column {missing[0]}; it has {', '.join(file.schema.names[:12])}")
        table = file.to_table(columns=[given[name] for name in problem.RAW])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{path} is not a readable {form} file: {str(error).splitlines()[0]}") from None
    return {name: column(_filled(table[given[name]]), name, kind) for name, kind in problem.RAW.items()}


def column(values: pa.Array | pa.ChunkedArray, name: str, kind: type) -> NDArray[Any]:
    """The values as NumPy has them, shape (n,): floats, times of microseconds, or objects.

    Raises:
        UserError: the column's type cannot hold what is wanted.
    """
    wanted, words = TYPES[kind]
    try:
        if pa.types.is_timestamp(values.type) and values.type.tz:
            raise pa.ArrowInvalid("it has a time zone")
        if kind is str:
            return _texts(values)
        cast = values.cast(wanted, safe=kind is not np.datetime64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"column {name} should hold {words} but is {values.type}: {error}") from None
    return np.asarray(cast.to_numpy() if isinstance(cast, pa.ChunkedArray) else cast.to_numpy(zero_copy_only=False))


def _texts(values: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Texts as objects, None where one is missing; rows with the same text share it."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    coded = whole.cast(pa.string()).dictionary_encode()
    known = np.array([*coded.dictionary.to_pylist(), None], object)
    places = coded.indices.fill_null(len(known) - 1) if coded.null_count else coded.indices
    return np.asarray(known[places.to_numpy(zero_copy_only=False)])


def _filled(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column whose blanks are missing values, where it is text."""
    if not pa.types.is_string(values.type):
        return values
    blank = pa.compute.equal(pa.compute.utf8_trim_whitespace(values), "")
    return pa.compute.if_else(blank, pa.scalar(None, pa.string()), values)
