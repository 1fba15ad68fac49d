"""Data larger than memory, a part at a time: the same rows dropped, on the same side and in the fingerprint as when all are read."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from .. import problem
from ..base import params
from ..base.errors import UserError
from . import read, sources, storage
from .clean import Dataset, usable
from .read import Dialect
from .split import drawn
from .storage import Place, together

ROWS = 500_000
"""A part has about this many rows of a Parquet file; a CSV file is one part."""

SAMPLED = 500_000
"""A model is measured on about this many rows of each side at most, which their hashes choose."""

SEED = 2**50
"""Of the hashes that choose them: not that of the split, which without a time would choose on one side only."""


@dataclass(frozen=True)
class Part:
    """A file or some row groups of it, empty for all; without a path, the sample. `first` rows are before it; Parquet's are counted in `rows`."""

    path: Place | None
    groups: tuple[int, ...] = ()
    written: Dialect = read.STANDARD
    first: int = 0
    rows: int = 0


Each = Callable[[Callable[[Part], Any], Sequence[Part]], Iterable[Any]]
"""Calls a function with every part and gives the results in order, as `map` does on this machine."""


class Counted(NamedTuple):
    """Of a part: rows read, rows dropped by rule, and its bins (hours; without a time, the sides) with their usable rows."""

    read: int
    dropped: dict[str, int]
    bins: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """Where the rows are split: validation rows have this time and row number or later ones, or else a hash that says so."""

    settings: params.Data
    limit: tuple[np.datetime64, int] | None
    shares: tuple[float, float]
    """Of each side, the share of the rows that is measured."""

    digests: tuple[int, ...] = ()
    """Of each part, the digest of its training rows, once it is known."""


class Side(NamedTuple):
    """The training rows or the validation rows of a part: their number, digest, first and last time, those to measure, and one of each class."""

    rows: int
    digest: int
    times: list[np.datetime64]
    sample: Dataset
    spare: Dataset


@dataclass(frozen=True)
class Sample(Dataset):
    """Rows that stand for all those of their side: number, span and fingerprint are the ones of all."""

    whole: tuple[int, tuple[str, str], int]

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return self.whole[0]

    @property
    def span(self) -> tuple[str, str]:
        """The first and the last time of all rows."""
        return self.whole[1]

    @property
    def digest(self) -> int:
        """The digest of all rows."""
        return self.whole[2]


def find(source: str) -> list[Part]:
    """The parts of a file or folder in the order in which `read.read` reads them; of the generated sample, if there is no source.

    Raises:
        UserError: a file is missing or damaged, or the files do not fit together.
    """
    if not source:
        return [Part(None)]
    found, dialects = [], []
    for each in sources.files(source):
        # Absolute: an executor works in a folder of its own.
        path = storage.place(str(each)) if isinstance(each, Path) else each
        with read.readable(path) as kind:
            if kind == "parquet":
                metadata = pyarrow.parquet.read_metadata(read.opened(path))
                for groups in together(metadata, ROWS):
                    found.append(Part(path, tuple(groups), rows=sum(metadata.row_group(n).num_rows for n in groups)))
                dialects.append(read.STANDARD)
            else:
                found.append(Part(path))
                dialects.append(read.dialect_of(path))
    written = read.common(source, dialects)
    return [replace(part, written=written) for part in found]


def rows(part: Part, settings: params.Data) -> Dataset:
    """The usable rows of a part.

    Raises:
        UserError: the part cannot be read; the message has its path.
    """
    if part.path is None:
        name, raw = read.SAMPLE, problem.sample(settings.sample_rows, settings.seed)
    else:
        try:
            name, raw = str(part.path), read.read(part.path, part.groups, part.written)
        except UserError as error:
            said = str(error)
            raise UserError(said if str(part.path) in said else f"{part.path}: {said}") from None
    dataset = usable(name, raw)
    return replace(dataset, places=dataset.places + part.first)


def sides(part: Part, cut: Cut) -> tuple[Dataset, Dataset]:
    """The training rows and the validation rows of a part."""
    dataset = rows(part, cut.settings)
    newest = _newest(dataset, cut.settings)
    if cut.limit:
        time, place = cut.limit
        times = dataset.columns[problem.TIME]
        newest = (times > time) | ((times == time) & (dataset.places >= place))
    return dataset.take(np.flatnonzero(~newest)), dataset.take(np.flatnonzero(newest))


def split(
    source: str, settings: params.Data, each: Each = map, kept: Callable[[Dataset, int], None] | None = None
) -> tuple[list[Part], Cut, Sample, Sample]:
    """The parts of `source`, else of `settings.source`, where they are split, and what is measured of their training rows and validation rows.

    Prints a warning if a file is not the one that `data.lock` names. `kept` is called with the training rows of each part, and with the number of those of all.

    Raises:
        UserError: a part cannot be read, or too few rows are usable.
    """
    source = sources.asked(settings, source)
    name, parts = source or read.SAMPLE, find(source)
    counted: list[Counted] = list(each(functools.partial(_counted, settings=settings), parts))
    first = np.cumsum([0, *(count.read for count in counted)]).tolist()
    parts = [replace(part, first=before) for part, before in zip(parts, first[:-1], strict=True)]
    dropped = sum((collections.Counter(count.dropped) for count in counted), collections.Counter())
    total = sum(int(count.rows.sum()) for count in counted)
    limit, older = _limit(parts, counted, total, settings, each)
    if not 0 < older < total:
        said = ", ".join(f"{count:,} {rule}" for rule, count in dropped.items()) or "none"
        raise UserError(f"{name}: {total:,} usable rows are too few to train and to validate (dropped: {said})")
    cut = Cut(settings, limit, (SAMPLED / older, SAMPLED / (total - older)))
    told = list(each(functools.partial(_told, cut=cut, older=older, kept=kept), parts))
    train, validation = (_together([both[side] for both in told]) for side in (0, 1))
    if (train.rows, validation.rows) != (older, total - older):
        raise UserError(f"{name} changed while it was read: run it again")
    files = {part.path.path: part.path for part in parts if part.path}
    span = " to ".join(filter(None, (train.span[0], validation.span[1])))
    sources.check(source, list(files.values()), lambda: (first[-1], span))
    known = {"name": name, "rows_read": first[-1], "dropped": dict(dropped)}
    cut = replace(cut, digests=tuple(side.digest for side, _ in told))
    return parts, cut, replace(train, **known), replace(validation, **known)


def matrices(
    numbers: Iterable[pa.RecordBatch], listed: Sequence[Part], cut: Cut, names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Features and target of the training rows of parts, a batch each with columns of these names; `numbers` say which parts.

    Raises:
        UserError: the rows are not those of which the digest was taken.
    """
    for batch in numbers:
        for number in batch.column(0).to_pylist():
            older, _ = sides(listed[number], cut)
            if older.digest != cut.digests[number]:
                raise UserError(f"{listed[number].path} changed while it was read: run it again")
            columns = [*problem.features(older.columns).T, older.target.astype(np.float32)]
            yield pa.record_batch([np.ascontiguousarray(column) for column in columns], list(names))


def both(older: Dataset, newest: Dataset) -> Sample:
    """The rows of both sides as one data set; of samples, as large a share of each."""
    whole = older.rows + newest.rows, (older.span[0], newest.span[1]), (older.digest + newest.digest) % 2**64
    if (share := min(len(older) / older.rows, len(newest) / newest.rows)) < 1:
        older, newest = (each.take(np.flatnonzero(drawn(each, share, SEED))) for each in (older, newest))
    columns = {name: np.concatenate([values, newest.columns[name]]) for name, values in older.columns.items()}
    target, places = np.concatenate([older.target, newest.target]), np.concatenate([older.places, newest.places])
    return Sample(older.name, columns, target, older.rows_read, older.dropped, places, whole)


def _newest(dataset: Dataset, settings: params.Data) -> NDArray[np.bool_]:
    return np.zeros(len(dataset), bool) if problem.TIME else drawn(dataset, settings.validation_share, settings.seed)


def _counted(part: Part, settings: params.Data) -> Counted:
    dataset = rows(part, settings)
    bins = dataset.columns[problem.TIME].astype("datetime64[h]") if problem.TIME else _newest(dataset, settings)
    return Counted(dataset.rows_read, dataset.dropped, *np.unique(bins.astype(np.int64), return_counts=True))


def _limit(
    parts: Sequence[Part], counted: Sequence[Counted], total: int, settings: params.Data, each: Each
) -> tuple[tuple[np.datetime64, int] | None, int]:
    """Time and row number of the first validation row, and the number of training rows."""
    if not problem.TIME:
        return None, sum(int(count.rows[count.bins == 0].sum()) for count in counted)
    older = round(total * (1 - settings.validation_share))
    if not 0 < older < total:
        return None, older
    hours, places = np.unique(np.concatenate([count.bins for count in counted]), return_inverse=True)
    sizes = np.bincount(places, np.concatenate([count.rows for count in counted])).astype(np.int64)
    after = np.cumsum(sizes)
    at = int(np.searchsorted(after, older, side="right"))
    there = [part for part, count in zip(parts, counted, strict=True) if hours[at] in count.bins]
    look = functools.partial(_of_hour, settings=settings, hour=int(hours[at]))
    times, numbers = (np.concatenate(each) for each in zip(*each(look, there), strict=True))
    chosen = np.lexsort((numbers, times))[older - int(after[at] - sizes[at])]
    return (times[chosen], int(numbers[chosen])), older


def _of_hour(part: Part, settings: params.Data, hour: int) -> tuple[NDArray[np.datetime64], NDArray[np.int64]]:
    """Time and row number of each row in an hour."""
    dataset = rows(part, settings)
    times = dataset.columns[problem.TIME].astype("datetime64[us]")
    inside = times.astype("datetime64[h]").astype(np.int64) == hour
    return times[inside], dataset.places[inside]


def _told(part: Part, cut: Cut, older: int, kept: Callable[[Dataset, int], None] | None) -> tuple[Side, ...]:
    found = sides(part, cut)
    if kept:
        kept(found[0], older)
    return tuple(_side(dataset, share) for dataset, share in zip(found, cut.shares, strict=True))


def _side(dataset: Dataset, share: float) -> Side:
    times = list(dataset.columns[problem.TIME][[0, -1]]) if problem.TIME and len(dataset) else []
    sample = dataset.take(np.flatnonzero(drawn(dataset, share, SEED)))
    classes = (
        np.unique(dataset.target, return_index=True)[1] if problem.TASK != "regression" else np.array([], np.int64)
    )
    return Side(len(dataset), dataset.digest, times, sample, dataset.take(classes))


def _together(found: Sequence[Side]) -> Sample:
    samples = [side.sample for side in found]
    # A class that no row of the sample has would not be known.
    missing = set(np.concatenate([side.spare.target for side in found])) - set(
        np.concatenate([each.target for each in samples])
    )
    for side in found:
        rows = [row for row, each in enumerate(side.spare.target) if each in missing]
        samples.append(side.spare.take(np.array(rows, np.int64)))
        missing -= set(side.spare.target)
    columns = {name: np.concatenate([each.columns[name] for each in samples]) for name in samples[0].columns}
    target, places = (np.concatenate([getattr(each, name) for each in samples]) for name in ("target", "places"))
    order = np.argsort(columns[problem.TIME], kind="stable") if problem.TIME else np.arange(len(target))
    times = [time for side in found for time in side.times]
    span = (str(min(times).astype("datetime64[s]")), str(max(times).astype("datetime64[s]"))) if times else ("", "")
    whole = sum(side.rows for side in found), span, sum(side.digest for side in found) % 2**64
    columns = {name: values[order] for name, values in columns.items()}
    return Sample("", columns, target[order], 0, {}, places[order], whole)
