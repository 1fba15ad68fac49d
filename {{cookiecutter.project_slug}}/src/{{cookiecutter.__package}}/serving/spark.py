"""Scoring on Spark, when one machine is too small: Spark reads and writes, the same `Scorer` runs on its executors."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from ..base.errors import UserError
from ..base.params import PACKAGE
from ..model import bundle
from . import job, served_model, storage
from .job import Job, Unit
from .scorer import SchemaError, Scorer
from .tables import BadLine

try:
    from pyspark.errors import PySparkException
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql import functions as F  # noqa: N812 - its usual name
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
    from pyspark.sql.types import StringType, StructField, StructType
except ImportError:
    raise UserError("Spark is not installed here: run `make spark`") from None

NUMBER, LINE = "_row_number", "_line"
Batches = Iterable[pa.RecordBatch]


class SparkJob(Job):
    """Scores a unit on Spark: the same rows get the same answers, and the same rows are refused for the same reasons.

    The output is a folder of Parquet storage. `SPARK_MASTER` names the cluster; its executors need what the batch image
    has, and reach inputs and output under the same names as this process.
    """

    def _unit(self, unit: Unit, pool: ThreadPoolExecutor) -> None:
        """Write the unit's output, and beside it its rejected rows; what fails leaves the old ones as they were."""
        if unit.target.form:
            raise UserError(f"OUTPUT={unit.target} is a file: Spark writes a folder of Parquet files, name one")
        partial = unit.target.with_ending(".partial")
        try:
            self._on_spark(unit, partial)
        except PySparkException as error:
            raise UserError(f"Spark: {_reason(error)}") from None
        finally:
            if partial.info().type == pa.fs.FileType.Directory:
                partial.system.delete_dir(partial.path)

    def _on_spark(self, unit: Unit, partial: storage.Place) -> None:
        identity = self._identity(unit)
        with tempfile.TemporaryDirectory() as scratch:
            session = _session(Path(scratch), self._settings.batch_rows)
            try:
                given, text = _read(session, unit)
                model, at, additions = bundle.read(served_model.locate()), self._scored_at, self._additions
                columns = to_arrow_schema(given.drop(NUMBER, LINE).schema)
                scorer = Scorer(self._predictor, columns, at, text, additions)

                def scored(batches: Batches) -> Iterator[pa.RecordBatch]:
                    yield from (each(rows, numbers).accepted for each, rows, numbers, _ in _each(batches))

                def refused(batches: Batches) -> Iterator[pa.RecordBatch]:
                    for each, rows, numbers, lines in _each(batches):
                        yield each.sift(rows, numbers)[2]
                        yield lines

                def _each(batches: Batches) -> Iterator[tuple[Scorer, pa.RecordBatch, pa.Array, pa.RecordBatch]]:
                    each = Scorer(served_model.build(model), columns, at, text, additions)
                    for rows in batches:
                        yield each, *_parts(rows, each)

                _write(given, scored, scorer.accepted, partial / "scored")
                _write(given, refused, scorer.rejected, partial / "rejected")
                counts = [session.read.parquet(str(partial / name)).count() for name in ("scored", "rejected")]
                self._finish(unit, identity, partial, *counts)
            finally:
                session.stop()

    def _finish(self, unit: Unit, identity: dict[str, str], partial: storage.Place, scored: int, rejected: int) -> None:
        rows = scored + rejected
        self.counts.rows += rows
        self.counts.rejected += rejected
        self.progress.add(rows)
        known = job.describe(self._predictor.card, self._log.run_id, unit, [], rows, rejected) | identity
        if unit.state() != identity["input_state"]:
            raise UserError(f"{unit.sources[0][0]} changed while it was read: run the job again")
        _replace(partial / "rejected", unit.rejected if rejected else None)
        if rejected > rows * self._settings.max_rejected_share:
            self.counts.refused.append(f"{unit.target}: {rejected:,} of {rows:,} rows were refused")
            return
        with storage.errors(unit.target):
            with partial.system.open_output_stream((partial / "scored" / storage.JOB_FILE).path) as stream:
                stream.write(json.dumps(known).encode())
            _replace(partial / "scored", unit.target)
        self.counts.files += 1


def _session(scratch: Path, rows: int) -> SparkSession:
    """A session whose executors know this package."""
    archive = shutil.make_archive(str(scratch / "package"), "zip", PACKAGE.parent, PACKAGE.name)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Errors come back as exceptions; what Java would log of them, and of itself, is for people who look after Spark.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    warnings.filterwarnings("ignore", category=FutureWarning, module="pyspark")
    master = os.environ.get("SPARK_MASTER", "local[*]")
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.appName(PACKAGE.name).master(master)
    settings = {
        "spark.log.level": "OFF",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(rows),
        "spark.submit.pyFiles": archive,
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except (PySparkException, RuntimeError, OSError) as error:
        raise UserError(f"Spark does not start ({_reason(error)}): it needs Java 17 on PATH or in JAVA_HOME") from None


def _read(session: SparkSession, unit: Unit) -> tuple[DataFrame, frozenset[str]]:
    """The unit's rows with their number and, of a CSV file, the lines that cannot be read; and which columns are text."""
    forms = {place.form for place, _ in unit.sources}
    if len(forms) > 1:
        raise UserError("INPUT has both Parquet and CSV files: score one kind at a time")
    paths = [str(place) for place, _ in unit.sources]
    if forms == {"parquet"}:
        rows = session.read.parquet(*paths)
        return rows.select(
            "*", (F.col("_metadata.row_index") + 1).alias(NUMBER), F.lit(None).cast("string").alias(LINE)
        ), frozenset()
    first = unit.sources[0][0]
    with storage.errors(first), first.system.open_input_stream(first.path) as stream:
        names = next(
            csv.reader(
                [stream.read(storage.BLOCK_BYTES).decode("utf-8-sig", errors="ignore").split("\n", 1)[0].strip("\r")]
            )
        )
    wanted = StructType([StructField(name, StringType()) for name in [*names, LINE]])
    options = {
        "header": True,
        "enforceSchema": True,
        "mode": "PERMISSIVE",
        "columnNameOfCorruptRecord": LINE,
        "multiLine": True,
        "escape": '"',
    }
    rows = session.read.schema(wanted).options(**options).csv(paths)
    return rows.select(*names, F.lit(None).cast("bigint").alias(NUMBER), LINE), frozenset(names)


def _parts(rows: pa.RecordBatch, scorer: Scorer) -> tuple[pa.RecordBatch, pa.Array, pa.RecordBatch]:
    """Of a batch its readable rows, their numbers, and its unreadable lines as refused."""
    lines, given = rows.column(LINE), rows.select(scorer.rejected.names[2:])
    readable = lines.is_null()
    texts = [text for text in lines.to_pylist() if text is not None]
    bad = [BadLine(None, len(next(csv.reader([text]))), len(given.schema), text) for text in texts]
    return given.filter(readable), rows.column(NUMBER).filter(readable), scorer.unreadable(bad)


def _write(
    given: DataFrame, function: Callable[[Batches], Iterator[pa.RecordBatch]], wanted: pa.Schema, where: storage.Place
) -> None:
    schema = from_arrow_schema(wanted, prefer_timestamp_ntz=True)
    given.mapInArrow(function, schema).write.mode("overwrite").parquet(str(where))


def _replace(partial: storage.Place, target: storage.Place | None) -> None:
    """Let a folder take the place of another; without a target it is only removed."""
    if target is None:
        partial.system.delete_dir(partial.path)
        return
    if target.info().type == pa.fs.FileType.Directory:
        target.system.delete_dir(target.path)
    partial.system.move(partial.path, target.path)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if SchemaError.__name__ in line or UserError.__name__ in line]
    return (said or lines or [type(error).__name__])[0][:200]
