"""`make score`: predictions for files of records, on all cores of this machine or on Spark."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..base.errors import Parser, UserError
from ..data import storage
from . import job, served_model, tables
from .job import Batch, Counts, Job, Unit
from .job_run import JobRun

TOO_MANY_REJECTED = 3
"""The exit code of a job with too many refused rows; 1 is any other failure."""

FEW_FILES = 500
"""The maximum number of files that are opened beforehand to count their rows."""


def expected(units: Sequence[Unit]) -> int:
    """The approximate number of rows, to estimate the time left; 0 if counting would take long."""
    sources = [source for unit in units for source, _ in unit.sources]
    if len(sources) > FEW_FILES:
        return 0
    with contextlib.suppress(UserError):  # a damaged file is reported when it is scored
        return sum(tables.expected(source) for source in sources)
    return 0


def report(counts: Counts, seconds: float) -> int:
    """Print the result of a job; returns its exit code."""
    done = f"{counts.rows - counts.rejected:,} rows scored in {seconds:.1f} s ({counts.rows / seconds:,.0f} rows/s)"
    print(
        f"{done}, {counts.rejected:,} rejected, {counts.files:,} file{'s' * (counts.files != 1)} written, {counts.up_to_date:,} up to date"
    )
    for reason in (*counts.failed, *counts.refused):
        print(f"error: {reason}", file=sys.stderr)
    if counts.refused:
        print(
            "the rows are beside the output, in .rejected.parquet, with their reasons; MAX_REJECTED=1 accepts any share",
            file=sys.stderr,
        )
    return 1 if counts.failed else TOO_MANY_REJECTED if counts.refused else 0


class Ready(NamedTuple):
    """A job that can begin: the model's card, the work, what it is done on, and where it is logged."""

    card: dict[str, Any]
    work: Job
    units: Sequence[Unit]
    log: JobRun


def arguments() -> Parser:
    """The options of the command."""
    parser = Parser(prog="make score", description=main.__doc__)
    parser.add_argument("--input", required=True, help="file, folder, glob or URL (make score INPUT=...)")
    parser.add_argument("--output", required=True, help="file, or folder for one file an input file (OUTPUT=...)")
    parser.add_argument("--since", default="", help="first date of the parts to score (SINCE=2024-01-31)")
    parser.add_argument("--until", default="", help="last date of the parts to score (UNTIL=2024-02)")
    parser.add_argument(
        "--max-rejected", type=float, help="share of rows that may be refused, 0 to 1 (MAX_REJECTED=0.1)"
    )
    parser.add_argument("--engine", choices=["arrow", "spark"], default="arrow", help="who scores (ENGINE=spark)")
    parser.add_argument("--with", dest="additions", default="", help="columns to add, such as explain (EXPLAIN=1)")
    parser.add_argument("--force", action="store_true", help="score again what is up to date (FORCE=1)")
    return parser


def prepared(given: argparse.Namespace) -> Ready:
    """The job that the options describe.

    Raises:
        UserError: an option is not valid, or there is no model or input.
    """
    if not given.input or not given.output:
        raise UserError("what is to be scored, and where to? make score INPUT=new.parquet OUTPUT=scored.parquet")
    settings: Batch = Batch.load()
    if given.max_rejected is not None:
        settings = settings.model_copy(update={"max_rejected_share": given.max_rejected})
    found = storage.find(given.input, given.since, given.until)
    output = storage.place(given.output)
    # Fetched once: other processes that need the model, such as Spark's executors, read this folder.
    served_model.pin()
    predictor = served_model.build()
    job_class: type[Job] = Job
    additions = given.additions.split()
    for name in additions:
        if name not in predictor.additions:
            raise UserError(f"{name}: this model offers {', '.join(predictor.additions) or 'no additions'}")
    many = "s" * (len(found) > 1)
    print(f"scoring {len(found):,} file{many} with model {predictor.card['model_version']}", flush=True)
    if given.engine == "spark":
        from .spark import SparkJob

        units, job_class = [Unit(found, output)], SparkJob
    else:
        units = job.plan(found, output)
    log = JobRun(predictor.card, given.input, given.output)
    return Ready(predictor.card, job_class(predictor, settings, log, expected(units), additions), units, log)


def carried_out(ready: Ready, *, force: bool) -> tuple[Counts, float]:
    """What the job has done, and the seconds that it took."""
    work, log = ready.work, ready.log
    started = time.perf_counter()
    status = "KILLED"
    try:
        counts = work.run(ready.units, force=force)
        status = "FAILED" if counts.failed or counts.refused else "FINISHED"
    finally:
        seconds = time.perf_counter() - started
        log.end(status, rows=work.counts.rows, rejected=work.counts.rejected, files=work.counts.files, seconds=seconds)
    return counts, seconds


def main(given: argparse.Namespace | None = None) -> int:
    """`make score`: predictions for the rows of INPUT, written to OUTPUT."""
    given = given or arguments().parse_args()
    return report(*carried_out(prepared(given), force=given.force))
