"""A scoring job: files of records in, the same files with predictions out, in constant memory."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa
from pydantic import Field

from ..base import params
from ..base.errors import UserError
from ..base.progress import Progress
from ..data import storage
from ..data.storage import Place
from ..model.predictor import Predicts
from . import outputs, tables
from .scorer import SchemaError, Scored, Scorer
from .tables import Writer

MANY = 10_000
"""The minimum number of refused rows before a job may give up on a file."""


class Batch(params.Section):
    """How files are scored, and the maximum share of refused rows in a file; above it the file is not written."""

    table = "batch"
    batch_rows: int = Field(default=65_536, ge=1)
    max_rejected_share: float = Field(default=0.05, ge=0, le=1)


@dataclass(frozen=True)
class Unit:
    """One output and the inputs whose rows it gets; it is written completely or not at all."""

    sources: Sequence[tuple[Place, str]]
    target: Place

    @property
    def rejected(self) -> Place:
        """Where the refused rows are written."""
        return outputs.beside(self.target, ".rejected.parquet")

    def state(self) -> str:
        """A fingerprint of the inputs; it differs if they have changed."""
        return " ".join(outputs.state(source) for source, _ in self.sources)


class Log(Protocol):
    """Records a job's progress; its run in MLflow is one."""

    run_id: str

    def file(self, digest: str, target: str) -> None:
        """Record that an input with this fingerprint was scored into `target`."""


@dataclass
class Counts:
    """What a job has done so far."""

    rows: int = 0
    rejected: int = 0
    files: int = 0
    up_to_date: int = 0
    failed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def plan(found: Sequence[tuple[Place, str]], output: Place) -> list[Unit]:
    """One unit if `output` is a file, else one per input file, under the same name in the folder `output`.

    Raises:
        UserError: the output would be written over the input, or a file is to become a folder.
    """
    inputs = {source.path for source, _ in found}
    if output.form:
        if output.path in inputs:
            raise UserError(f"{output} is an input too: choose another OUTPUT")
        return [Unit(found, output)]
    if [below for _, below in found] == [""]:
        raise UserError(f"OUTPUT={output} is no file: give it a name that ends in .parquet or .csv")
    for source, below in found:
        if (output / below).path in inputs or source.path.startswith(output.path.rstrip("/") + "/"):
            raise UserError(f"INPUT has {source}, which is inside OUTPUT: choose another folder")
    return [Unit([(source, below)], output / below) for source, below in found]


def describe(
    card: dict[str, Any], job: str, unit: Unit, fingerprints: Sequence[str], rows: int, rejected: int
) -> dict[str, str]:
    """The metadata of an output, which `make about` shows."""
    return {
        "model_name": card["name"],
        "model_version": card["model_version"],
        "model_run_id": card["run_id"],
        "job_run_id": job,
        # A job that was not logged has no run to refer to.
        **({} if job else {"job": secrets.token_hex(16)}),
        **({"share": str(card["serving"].get("share", 0.0))} if "serving" in card else {}),
        "input": ", ".join(str(source) for source, _ in unit.sources)[:4_000],
        "input_fingerprint": " ".join(fingerprints)[:4_000],
        "rows": str(rows),
        "rejected": str(rejected),
        **({"image": os.environ["IMAGE"]} if os.environ.get("IMAGE") else {}),
    }


class Job:
    """Scores one unit after the other on all cores.

    Args:
        predictor: the model; it is called from several threads at once.
        settings: the number of rows in a batch, and the maximum share of refused rows in a unit.
        log: the job's run in MLflow.
        additions: what is added to each row, by the names that the predictor offers.

    Attributes:
        watch: if it is set, it sees every batch of a file after it was scored.
    """

    watch: Callable[[Place, Scored], None] | None = None

    def __init__(
        self,
        predictor: Predicts,
        settings: Batch,
        log: Log,
        expected_rows: int = 0,
        additions: Sequence[str] = (),
        scored_at: datetime | None = None,
    ) -> None:
        self._predictor, self._settings, self._log, self._additions = predictor, settings, log, additions
        self._scored_at = scored_at or datetime.now(UTC)
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.progress = Progress(expected_rows)
        self.counts = Counts()

    def run(self, units: Iterable[Unit], *, force: bool = False) -> Counts:
        """Score every unit that is not up to date; one that fails is reported and does not stop the others."""
        with ThreadPoolExecutor(self.cores) as pool, self.progress:
            for unit in units:
                if not force and self._up_to_date(unit):
                    self.counts.up_to_date += 1
                    continue
                try:
                    self._unit(unit, pool)
                except (UserError, OSError) as error:
                    reason = str(error) if isinstance(error, UserError) else f"{error.filename}: {error.strerror}"
                    self.counts.failed.append(reason)
        return self.counts

    def _up_to_date(self, unit: Unit) -> bool:
        known = outputs.metadata(unit.target)
        return bool(known) and all(known.get(name) == value for name, value in self._identity(unit).items())

    def _identity(self, unit: Unit) -> dict[str, str]:
        card = self._predictor.card
        return {
            "model_run_id": card["run_id"],
            "model_version": card["model_version"],
            "input_state": unit.state(),
            "additions": " ".join(self._additions),
        }

    def _unit(self, unit: Unit, pool: ThreadPoolExecutor) -> None:
        """Write the unit's output, and its rejected rows beside it.

        Raises:
            UserError: an input cannot be read or scored, or changed meanwhile; the old output is unchanged.
        """
        identity = self._identity(unit)
        digests = [pool.submit(outputs.digest, source) for source, _ in unit.sources if not source.groups]
        count, rejected, hopeless = 0, 0, ""
        with contextlib.ExitStack() as undo:
            written: Writer | None = None
            rejects: Writer | None = None
            for source, below in unit.sources:
                for scorer, scored in self._scored(source, below, pool):
                    if written is None:
                        written = _opened(unit.target, scorer.accepted, undo)
                    if not scorer.accepted.equals(written.schema):
                        raise SchemaError(
                            f"{source} has other columns than the files before it: let OUTPUT be a folder"
                        )
                    written.write(scored.accepted)
                    if scored.rejected.num_rows:
                        if rejects is None:
                            rejects = _opened(unit.rejected, scorer.rejected, undo)
                        rejects.write(scored.rejected)
                    if self.watch:
                        self.watch(source, scored)
                    rejected += scored.rejected.num_rows
                    count += scored.accepted.num_rows + scored.rejected.num_rows
                    self.progress.add(scored.accepted.num_rows + scored.rejected.num_rows)
                    if self._hopeless(source, rejected):
                        written, hopeless = None, "; the rest was not read"
                        break
            if unit.state() != identity["input_state"]:
                raise UserError(f"{unit.sources[0][0]} changed while it was read: run the job again")
            self.counts.rows += count
            self.counts.rejected += rejected
            fingerprints = [digest.result() for digest in digests]
            about_it = describe(self._predictor.card, self._log.run_id, unit, fingerprints, count, rejected) | identity
            # The output is published last: if it exists, it is complete.
            if rejects is None:
                outputs.remove(unit.rejected)
            else:
                rejects.publish(about_it)
            if rejected > count * self._settings.max_rejected_share:
                self.counts.refused.append(f"{unit.target}: {rejected:,} of {count:,} rows were refused{hopeless}")
            elif written is not None:
                written.publish(about_it)
                self.counts.files += 1
                for fingerprint in fingerprints:
                    self._log.file(fingerprint, str(unit.target))

    def _hopeless(self, source: Place, rejected: int) -> bool:
        """Whether too many rows are refused already, even if the source had twice as many rows as estimated."""
        most = 2 * self._settings.max_rejected_share
        return MANY < rejected > most * (tables.expected(source) or rejected) if most < 1 else False

    def _scored(self, source: Place, below: str, pool: ThreadPoolExecutor) -> Iterator[tuple[Scorer, Scored]]:
        """Batches in order: while some are scored, the next are read and earlier ones are written."""
        waiting: deque[Future[Scored]] = deque()
        with tables.reading(source, self._settings.batch_rows, storage.partitions(below)) as reading:
            try:
                at, written = self._scored_at, reading.written
                scorer = Scorer(self._predictor, reading.schema, at, reading.text, self._additions, written)
                yield scorer, Scored(scorer.nothing(), scorer.unreadable([]))
                for batch, numbers in reading.batches:
                    waiting.append(pool.submit(scorer, batch, numbers))
                    while len(waiting) > self.cores + 1:
                        yield scorer, waiting.popleft().result()
                    if reading.bad_lines:
                        yield scorer, Scored(scorer.nothing(), scorer.unreadable(reading.bad_lines))
                        reading.bad_lines.clear()
                while waiting:
                    yield scorer, waiting.popleft().result()
                yield scorer, Scored(scorer.nothing(), scorer.unreadable(reading.bad_lines))
            except SchemaError as error:
                raise SchemaError(f"{source}: {error}") from None


def _opened(target: Place, schema: pa.Schema, undo: contextlib.ExitStack) -> Writer:
    writer = Writer(target, schema)
    undo.callback(writer.abandon)
    writer.open()
    return writer
