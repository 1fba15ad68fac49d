"""Scoring on Spark, if one machine is too small: executors read, score and write parts as one machine does files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from ..base import spark
from ..base.errors import UserError
from ..data import storage
from ..data.storage import Place, together
from . import job, outputs, served_model
from .job import Batch, Counts, Job, Unit
from .served_model import Served

PART_ROWS = 1_000_000
"""A task of an executor has about this many rows of a Parquet file; a CSV file is one task."""


@dataclass(frozen=True)
class Scored:
    """An executor's result for its part: the rows, the refused ones, the columns written, or the error."""

    rows: int = 0
    rejected: int = 0
    columns: str = ""
    error: str = ""


class NoLog:
    """A log that records nothing: the job has a run, its parts have none."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def file(self, digest: str, target: str) -> None:
        """Record nothing for a part."""


class SparkJob(Job):
    """Scores a unit on Spark, with the same answers, refused rows and reasons as one machine.

    The output is a folder of Parquet files. `SPARK_MASTER` names the cluster; its executors need the packages of the batch image,
    and must reach inputs and output under the same names as this process, also those in a store such as S3.
    """

    def _unit(self, unit: Unit, pool: ThreadPoolExecutor) -> None:
        """Write the unit's output, and its rejected rows beside it; a failure leaves the old ones unchanged."""
        if unit.target.form:
            raise UserError(f"OUTPUT={unit.target} is a file: Spark writes a folder of Parquet files, name one")
        partial = outputs.beside(unit.target, ".partial")
        _remove(partial)
        try:
            self._on_spark(unit, partial)
        finally:
            _remove(partial)

    def _on_spark(self, unit: Unit, partial: Place) -> None:
        identity = self._identity(unit)
        work = _work(served_model.read(), self._settings, self._log.run_id, self._additions, self._scored_at)
        parts = [
            Unit([(source, below)], partial / f"scored/part-{number:05}.parquet")
            for number, (source, below) in enumerate(_parts(unit))
        ]
        with spark.session() as session:
            done = session.sparkContext.parallelize(parts, len(parts)).map(work).collect()
        for each in done:
            if each.error:
                raise UserError(each.error)
        if len({each.columns for each in done}) > 1:
            raise UserError(f"{unit.target}: the files of INPUT have different columns: score them one by one")
        self._finish(unit, identity, partial, sum(each.rows for each in done), sum(each.rejected for each in done))

    def _finish(self, unit: Unit, identity: dict[str, str], partial: Place, rows: int, rejected: int) -> None:
        self.counts.rows += rows
        self.counts.rejected += rejected
        self.progress.add(rows)
        known = job.describe(self._predictor.card, self._log.run_id, unit, [], rows, rejected) | identity
        if unit.state() != identity["input_state"]:
            raise UserError(f"{unit.sources[0][0]} changed while it was read: run the job again")
        with storage.errors(unit.target):
            written = unit.target.system.get_file_info(pa.fs.FileSelector((partial / "scored").path))
            refused = [info.path for info in written if info.path.endswith(".rejected.parquet")]
            accepted = [info.path for info in written if info.path not in refused]
            _publish(refused, unit.rejected)
            if rejected > rows * self._settings.max_rejected_share:
                self.counts.refused.append(f"{unit.target}: {rejected:,} of {rows:,} rows were refused")
                return
            _publish(accepted, unit.target)
            with unit.target.system.open_output_stream((unit.target / outputs.JOB_FILE).path) as stream:
                stream.write(json.dumps(known).encode())
        self.counts.files += 1


def _parts(unit: Unit) -> Iterator[tuple[Place, str]]:
    """The parts that executors share: some row groups of a Parquet file, or a CSV file."""
    for source, below in unit.sources:
        with storage.errors(source):
            if source.form == "csv":
                yield source, below
                continue
            with source.system.open_input_file(source.path) as file:
                metadata = pa.parquet.ParquetFile(file).metadata
            for groups in together(metadata, PART_ROWS):
                yield replace(source, groups=tuple(groups)), below


def _work(
    model: Served, settings: Batch, run_id: str, additions: Sequence[str], scored_at: datetime
) -> Callable[[Unit], Scored]:
    """An executor's work on a part: a job of its own, on one core; the limit of refused rows is checked over all parts."""
    lenient = settings.model_copy(update={"max_rejected_share": 1.0})

    def work(part: Unit) -> Scored:
        single = Job(served_model.build(model), lenient, NoLog(run_id), 0, additions, scored_at)
        single.cores = 1
        counts: Counts = single.run([part], force=True)
        if counts.failed:
            return Scored(error=counts.failed[0])
        there = part.target.info().is_file
        columns = str(pa.parquet.read_schema(part.target.path, filesystem=part.target.system)) if there else ""
        return Scored(counts.rows, counts.rejected, columns)

    return work


def _publish(files: list[str], target: Place) -> None:
    """Make these files the content of the folder `target`; without files, there is no folder."""
    system, old = target.system, outputs.beside(target, ".old")
    if old.info().type == pa.fs.FileType.Directory and target.info().type == pa.fs.FileType.NotFound:
        system.move(old.path, target.path)  # an earlier job was killed between two renames
    _remove(old)
    if isinstance(system, pa.fs.LocalFileSystem):
        # The new folder is complete before the old one is moved away.
        new = outputs.beside(target, ".new")
        _remove(new)
        _move(files, new)
        if target.info().type == pa.fs.FileType.Directory:
            system.move(target.path, old.path)
        if files:
            system.move(new.path, target.path)
        _remove(old)
        return
    # A store cannot rename a folder: the old files are removed once the new ones are in.
    before = system.get_file_info(pa.fs.FileSelector(target.path, allow_not_found=True))
    outputs.remove(target / outputs.JOB_FILE)
    names = _move(files, target)
    for info in before:
        if info.is_file and info.base_name not in names and info.base_name != outputs.JOB_FILE:
            system.delete_file(info.path)


def _move(files: list[str], folder: Place) -> set[str]:
    """Move files into a folder; returns their names."""
    if files:
        folder.system.create_dir(folder.path, recursive=True)
    names = {path: path.rpartition("/")[2].replace(".parquet.rejected.parquet", ".parquet") for path in files}
    for path, name in names.items():
        folder.system.move(path, (folder / name).path)
    return set(names.values())


def _remove(folder: Place) -> None:
    if folder.info().type == pa.fs.FileType.Directory:
        folder.system.delete_dir(folder.path)
