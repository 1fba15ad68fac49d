"""Training data: read a file or the generated sample, drop what cannot be learned from, split by time."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.dataset
import pyarrow.parquet
from numpy.typing import NDArray

from . import arrow, datalock, download, params, problem, schema
from .cli import UserError
from .metrics import metrics
from .problem import Columns

SAMPLE = "generated sample"
TELLING = 0.999
"""How well one feature may order the target by itself: as area under the ROC curve, or as correlation."""


@dataclass(frozen=True)
class Dataset:
    """Rows to learn from, oldest first where they have a time: the record's fields and the target, each of shape (n,)."""

    name: str
    columns: Columns
    target: NDArray[np.float64]
    rows_read: int
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.target)

    @property
    def span(self) -> tuple[str, str]:
        """The first and the last time, ISO 8601; nothing where the problem has no time."""
        if not problem.TIME:
            return "", ""
        times = self.columns[problem.TIME]
        return str(times[0].astype("datetime64[s]")), str(times[-1].astype("datetime64[s]"))

    @property
    def fingerprint(self) -> str:
        """The same for the same rows, whatever file, format or time resolution they came in."""
        digest = hashlib.sha256()
        for name, values in [*sorted(self.columns.items()), (problem.TARGET, self.target)]:
            digest.update(name.encode())
            digest.update(values.tobytes() if values.dtype != object else "\0".join(map(str, values)).encode())
        return digest.hexdigest()[:16]

    def take(self, rows: slice | NDArray[np.int64]) -> Dataset:
        """Some of the rows, as a data set of their own."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Dataset(self.name, columns, self.target[rows], self.rows_read, self.dropped)


def load(settings: params.Data, source: str = "") -> Dataset:
    """The rows that `raw` gives, cleaned.

    Raises:
        UserError: the file is missing, damaged, lacks a column, or has no row that can be used.
    """
    return clean(*raw(settings, source))


def raw(settings: params.Data, source: str = "") -> tuple[str, dict[str, NDArray[Any]]]:
    """The name and the columns of `source`, else of `settings.source`, else of the generated sample.

    A file that is not what `data.lock` names is told of.

    Raises:
        UserError: the file is missing, damaged, or lacks a column.
    """
    source = source or settings.source
    if not source:
        return SAMPLE, problem.sample(settings.sample_rows, settings.seed)
    path = datalock.fetch(source) if "://" in source else Path(source)
    columns = read(path)
    if "://" in source:
        if datalock.named(path) not in datalock.entries():
            _keep(path, columns, source)
    elif different := datalock.difference(path):
        print(f"warning: {different}", file=sys.stderr)
    return source, columns


def _keep(path: Path, columns: Columns, origin: str = "") -> str:
    """Name a file in `data.lock`; says so."""
    span = ""
    if problem.TIME:
        times = problem.prepare(columns)[problem.TIME]
        known = times[~np.isnat(times)].astype("datetime64[s]")
        span = f"{known.min()} to {known.max()}" if len(known) else ""
    return datalock.keep(path, len(next(iter(columns.values()))), span, origin)


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
    try:
        file = pa.dataset.dataset(path, format=form)
        given = {problem.ALIASES.get(name, name): name for name in file.schema.names}
        missing = [name for name in problem.RAW if name not in given]
        if missing:
            raise UserError(f"{path} has no column {missing[0]}; it has {', '.join(file.schema.names[:12])}")
        table = file.to_table(columns=[given[name] for name in problem.RAW])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{path} is not a readable {form} file: {str(error).splitlines()[0]}") from None
    return {name: arrow.column(_filled(table[given[name]]), name, kind) for name, kind in problem.RAW.items()}


def table(columns: Columns) -> pa.Table:
    """Columns as they belong in a file: what is missing is null there, not a number that is none."""
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def _filled(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column whose blanks are missing values, where it is text."""
    if not pa.types.is_string(values.type):
        return values
    blank = pa.compute.equal(pa.compute.utf8_trim_whitespace(values), "")
    return pa.compute.if_else(blank, pa.scalar(None, pa.string()), values)


def clean(name: str, raw: Columns) -> Dataset:
    """Leave out every row that the service would refuse or that has no sensible target, and count them by rule.

    Raises:
        UserError: no row is left.
    """
    raw = problem.prepare(raw)
    target = problem.target(raw)
    rules: list[tuple[str, NDArray[np.bool_]]] = [
        *schema.violations(raw, needed=[problem.TIME]),
        (f"{problem.TARGET} missing", np.isnan(target)),
    ]
    rules += [(rule, broken(target)) for rule, broken in problem.TARGET_RULES.items()]
    keep = np.ones(len(target), bool)
    dropped: dict[str, int] = {}
    for rule, broken in rules:
        count = int((keep & broken).sum())
        if count:
            dropped[rule] = count
        keep &= ~broken
    if not keep.any():
        reasons = ", ".join(f"{count:,} {rule}" for rule, count in dropped.items())
        raise UserError(f"{name}: no row is left of {len(target):,} ({reasons or 'it is empty'})")
    order = np.flatnonzero(keep)
    if problem.TIME:
        order = order[np.argsort(raw[problem.TIME][keep], kind="stable")]
    columns = {field.name: raw[field.name][order].astype(field.dtype) for field in schema.FIELDS}
    return Dataset(name, columns, target[order], len(target), dropped)


def split(dataset: Dataset, validation_share: float, seed: int = 42) -> tuple[Dataset, Dataset]:
    """Rows to train on and `validation_share` of them to validate with; none is in both.

    Where rows have a time, the newest are for validation. Otherwise chance decides, by `seed`, and each class gives the
    same share.

    Raises:
        UserError: one of the two would be empty.
    """
    rows = np.arange(len(dataset))
    if problem.TIME:
        chosen = rows >= round(len(dataset) * (1 - validation_share))
    else:
        rng = np.random.default_rng(seed)
        groups = dataset.target if problem.TASK != "regression" else np.zeros(len(dataset))
        chosen = np.zeros(len(dataset), bool)
        for group in np.unique(groups):
            members = rng.permutation(rows[groups == group])
            chosen[members[: round(len(members) * validation_share)]] = True
    if not chosen.any() or chosen.all():
        raise UserError(f"{dataset.name}: {len(dataset)} usable rows are too few to train and to validate")
    return dataset.take(rows[~chosen]), dataset.take(rows[chosen])


def leaks(dataset: Dataset) -> list[str]:
    """Features that by themselves order the target all but perfectly: they are known too late, or are the target."""
    matrix, found = problem.features(dataset.columns), []
    for name, values in zip(problem.FEATURES, matrix.T.astype(np.float64), strict=True):
        known = ~np.isnan(values)
        if problem.TASK == "multiclass" or known.sum() < 2 or np.ptp(values[known]) == 0:
            continue
        if problem.TASK == "binary":
            alone = metrics(dataset.target[known], values[known])["roc_auc"]
            tells = max(alone, 1 - alone) > TELLING
        else:
            tells = abs(np.corrcoef(values[known], dataset.target[known])[0, 1]) > TELLING
        if tells:
            found.append(name)
    return found


def describe(dataset: Dataset) -> Iterable[str]:
    """Lines for a person: how many rows there are, from when to when or of which class, and what was dropped and why."""
    first, last = dataset.span
    when = f", {first[:10]} to {last[:10]}" if first else ""
    yield f"{len(dataset):,} of {dataset.rows_read:,} rows from {dataset.name}{when}"
    if problem.TASK != "regression":
        classes, counts = np.unique(dataset.target, return_counts=True)
        shares = ", ".join(
            f"{int(each)}: {count / len(dataset):.1%}" for each, count in zip(classes, counts, strict=True)
        )
        yield f"  {problem.TARGET} by class: {shares}"
    for rule, count in dataset.dropped.items():
        yield f"  dropped {count:,}: {rule}"


def main() -> None:
    """`make data`: bring back what `data.lock` names, fetch the real data, name a file there, or write the sample."""
    parser = argparse.ArgumentParser(prog="make data", description=main.__doc__)
    parser.add_argument("--month", default="", help="the month to fetch (make data MONTH=2024-01)")
    parser.add_argument("--fetch", action="store_true", help="fetch the real data (make data FETCH=1)")
    parser.add_argument("--keep", default="", help="file to name in data.lock (make data KEEP=data/rows.parquet)")
    parser.add_argument("--drift", action="store_true", help="let the generated sample drift (make data DRIFT=1)")
    given = parser.parse_args()
    settings = params.load().data
    origin = download.address(given.month) if given.month or given.fetch else ""
    if origin:
        path = datalock.fetch(origin)
    elif given.keep:
        path = Path(given.keep).resolve()
    elif datalock.entries() and not given.drift:
        for line in datalock.restore_all():
            print(line)
        return
    else:
        path = _write_sample(settings, given.drift)
    columns = read(path)
    for line in describe(clean(path.name, columns)):
        print(line)
    if origin or given.keep:
        print(_keep(path, columns, origin))
    shown = path.relative_to(params.ROOT) if path.is_relative_to(params.ROOT) else path
    print(f"train on it: make train DATA={shown}")


def _write_sample(settings: params.Data, drift: bool) -> Path:
    path = params.ROOT / "data" / ("drifted.parquet" if drift else "sample.parquet")
    columns = problem.sample(settings.sample_rows, settings.seed, drift=drift)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    pa.parquet.write_table(table(columns), partial)
    partial.replace(path)
    return path
