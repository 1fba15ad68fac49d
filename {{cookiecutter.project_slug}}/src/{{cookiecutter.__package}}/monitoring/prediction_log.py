"""The prediction log: one line of JSON for each prediction, on disk before the answer is sent."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import Field
from pydantic_core import to_json

from .. import problem
from ..base import params
from ..base.errors import UserError
from ..base.fields import Columns
from ..data import schema
from ..model.bundle import ModelError
from ..model.following import Around
from ..model.predictor import PREDICTION, Predicts

ENDING = ".jsonl"
FILE_BYTES = 1 << 24
"""A larger file is followed by a new one; whole files are removed once the log is too old or too large."""

LOOK_SECONDS = 1.0
"""How often a process checks its file: one that was just written to is not among the oldest files, which may be removed."""

IMAGE = {"image": os.environ["IMAGE"]} if os.environ.get("IMAGE") else {}
"""The digest of the container image that answers, if the deployment sets it."""

LOGGED = (*(field.name for field in schema.FIELDS), problem.ID)
"""The fields of a record that are logged."""


class Log(params.Section):
    """Where predictions are logged (`PREDICTION_LOG` in the environment takes precedence), and how long they are stored."""

    table = "log"
    folder: str = "predictions"
    days: int = Field(default=90, ge=1)
    max_bytes: int = Field(default=1_000_000_000, ge=2 * FILE_BYTES)


def address() -> str:
    """Where the log is: a folder, or a URL such as `s3://bucket/scored` that jobs write to, or a service's files were copied to."""
    given = os.environ.get("PREDICTION_LOG") or str(Log.load().folder)
    return given if "://" in given else str(params.ROOT / given)


def beginning(text: str, name: str) -> str:
    """A day or a time, as given for `name`.

    Raises:
        UserError: it is not valid.
    """
    try:
        datetime.fromisoformat(text or "2024-01-31")
    except ValueError:
        raise UserError(
            f"{name}={text} is no day or time: write it as 2024-01-31 or 2024-01-31T12:00, in UTC"
        ) from None
    return text


def folder() -> Path:
    """The folder to which a service writes its log.

    Raises:
        UserError: it is a URL.
    """
    if "://" in (given := address()):
        raise UserError(f"PREDICTION_LOG={given}: a service writes to a folder; copy its files to that address")
    return Path(given)


class PredictionLog:
    """Appends to the log; every process has its own files, so that lines of two processes never mix.

    A line is one write to the file: what was written is there even if the process is killed right after. If the disk is
    full, the line is lost and counted, and the client gets the answer all the same.

    Args:
        where: the folder.
        settings: how long lines are stored.
        private: the fields of a record that are not logged as they are: hashed with the secret in `LOG_SECRET`, or left
            out if there is none.

    Attributes:
        lost: lines that could not be written.
    """

    def __init__(self, where: Path, settings: Log, private: Collection[str] = ()) -> None:
        self._where, self._settings, self._private = where, settings, private
        self._secret, self._lock = os.environ.get("LOG_SECRET", "").encode(), threading.Lock()
        self._file, self._day, self._size, self._torn = -1, "", 0, False
        self._process, self._looked = os.getpid(), 0.0
        self.lost = 0

    def check(self) -> None:
        """Check that the log can be written, before any request is answered.

        Raises:
            ModelError: it cannot.
        """
        try:
            with self._lock:
                self._ready()
        except OSError as error:
            raise ModelError(
                f"the log of predictions at {self._where} cannot be written ({error.strerror}): give this user the folder, or "
                "set PREDICTION_LOG to another one"
            ) from None

    def note(self, columns: Columns, answers: Columns, milliseconds: float, share: float = 0.0) -> None:
        """Append a line for each of n predictions: its record and its answer, `milliseconds` each.

        `share` is the challenger's share of the keys at that time.
        """
        self._write(
            lines(columns, answers, milliseconds, share, self._hidden if self._private else None),
            len(answers["model_version"]),
        )

    def refused(self, count: int) -> None:
        """Append a line with the number of records that were refused."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._write(to_json({"refused": count, "time": now}) + b"\n", 1)

    def _write(self, content: bytes, count: int) -> None:
        with self._lock:
            try:
                self._ready()
                # A line that a full disk cut off must not run into the next one.
                content = b"\n" + content if self._torn else content
                self._torn = True
                if os.write(self._file, content) < len(content):
                    raise OSError("the disk is full")
                self._torn = False
                self._size += len(content)
            except OSError:
                self.lost += count

    def _ready(self) -> None:
        """Open the file of this day and process; a forked process opens its own."""
        now, mine = time.time(), self._file >= 0 and self._process == os.getpid()
        if mine and now < self._looked + LOOK_SECONDS and self._size < FILE_BYTES:
            return
        self._looked, day = now, time.strftime("%Y-%m-%d", time.gmtime(now))
        # Another process may have removed the file to free space: writes to it would be lost.
        if mine and day == self._day and self._size < FILE_BYTES and os.fstat(self._file).st_nlink:
            return
        before, self._file, self._process = self._file, -1, os.getpid()
        if mine:
            with contextlib.suppress(OSError):
                os.close(before)
        self._where.mkdir(parents=True, exist_ok=True)
        self._prune()
        name = f"{day}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{ENDING}"
        self._file = os.open(self._where / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        self._day, self._size, self._torn = day, 0, False

    def _prune(self) -> None:
        """Remove the oldest files until the rest is within the limits of age and size, with space for the next file."""
        oldest = (datetime.now(UTC) - timedelta(days=self._settings.days)).strftime("%Y-%m-%d")
        found = []
        for path in self._where.glob(f"*{ENDING}"):
            with contextlib.suppress(FileNotFoundError):  # another process prunes at the same time
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if path.name >= oldest and total <= self._settings.max_bytes - FILE_BYTES:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def _hidden(self, name: str, value: Any) -> Any:
        if name not in self._private or value is None:
            return value
        return hmac.new(self._secret, str(value).encode(), hashlib.sha256).hexdigest() if self._secret else None


class Logged(Around):
    """A predictor that logs each answer before it returns it.

    Args:
        inner: the predictor; its answers have `model_version` and `role`.
        log: where they are logged.
    """

    def __init__(self, inner: Predicts, log: PredictionLog) -> None:
        super().__init__(inner)
        self._log = log

    def snapshot(self) -> Logged:
        """The current predictor, logged."""
        return Logged(self._inner.snapshot(), self._log)

    @property
    def card(self) -> dict[str, Any]:
        """The model's description of itself, and the number of lost lines of the log."""
        card = self._inner.card
        return {**card, "serving": {**card.get("serving", {}), "log_lines_lost": self._log.lost}}

    def refused(self, count: int) -> None:
        """Log the number of records that were refused."""
        self._log.refused(count)

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The answers of the wrapped predictor, after they are logged."""
        started, inner = time.perf_counter(), self._inner.snapshot()
        answers = inner.predict(columns)
        if rows := len(answers["model_version"]):
            share = inner.card.get("serving", {}).get("share", 0.0)
            self._log.note(columns, answers, (time.perf_counter() - started) * 1000 / rows, share)
        return answers


def lines(
    columns: Columns, answers: Columns, milliseconds: float, share: float, hidden: Callable[[str, Any], Any] | None
) -> bytes:
    """A line for each of n predictions: id, time, version, role, the challenger's share, milliseconds, record and answer."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    fields = [name for name in LOGGED if name in columns]
    values = [columns[name].tolist() for name in fields]
    if hidden:
        values = [[hidden(name, value) for value in each] for name, each in zip(fields, values, strict=True)]
    known = {name: each.tolist() for name, each in answers.items()}
    versions, roles = known.pop("model_version"), known.pop("role")
    ids = columns[PREDICTION].tolist() if PREDICTION in columns else [None] * len(versions)
    told = zip(ids, versions, roles, zip(*values, strict=True), zip(*known.values(), strict=True), strict=True)
    return b"".join(
        to_json(
            {
                "prediction_id": name,
                "time": now,
                "model_version": version,
                "role": role,
                "share": share,
                "milliseconds": round(milliseconds, 3),
                "record": dict(zip(fields, record, strict=True)),
                "answer": dict(zip(known, answer, strict=True)),
                **IMAGE,
            },
            inf_nan_mode="null",
        )
        + b"\n"
        for name, version, role, record, answer in told
    )
