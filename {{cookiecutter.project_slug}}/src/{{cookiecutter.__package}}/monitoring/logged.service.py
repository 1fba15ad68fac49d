"""Read predictions back from the lines that services wrote."""

from __future__ import annotations

import contextlib
import io
import json
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs

from ..data import storage
from . import prediction_log
from .prediction_log import ENDING

BUFFER_BYTES = 1 << 20
REMEMBERED = 1_000_000
"""The number of ids remembered to skip duplicates: a worker that died between two steps answers its last events again."""


def rows(folder: Path | None = None, since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
    """Every prediction once, by day, from a folder or from where its files were copied to (`s3://bucket/predictions`): `prediction_id`, `time`, `model_version`, `role`, `milliseconds`, `record`, `answer`.

    `since` and `until` are times or their beginnings (`2024-01-31`); predictions before `since` or after `until` are
    left out.
    """
    known: set[tuple[str, str, str]] = set()
    order: deque[tuple[str, str, str]] = deque()
    for line in _lines(folder, since, until):
        try:
            row = json.loads(line)
            name = row["prediction_id"], row["model_version"], row["role"]
            new = name not in known and isinstance(row["record"], dict) and isinstance(row["answer"], dict)
            took = isinstance(row["milliseconds"], int | float | None) and 0 <= (row["milliseconds"] or 0) < 1e12
            whole = new and took and datetime.fromisoformat(row["time"]).tzinfo
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a full disk, or written by another program
        if not whole or row["time"] < since or (until and row["time"][: len(until)] > until):
            continue
        known.add(name)
        order.append(name)
        if len(order) > REMEMBERED:
            known.discard(order.popleft())
        yield row


def refused(folder: Path | None = None, since: str = "", until: str = "") -> Iterator[tuple[str, int]]:
    """When records were refused, and how many, in the order of the files; `since` and `until` name days."""
    for line in _lines(folder, since, until):
        if b'"refused"' in line[:60]:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                datetime.fromisoformat(row["time"])
                yield row["time"], int(row["refused"])


def _lines(folder: Path | None, since: str, until: str) -> Iterator[bytes]:
    """The lines of the files of some days."""
    where = storage.place(str(folder or prediction_log.address()))
    with storage.errors(where):
        found = where.system.get_file_info(pa.fs.FileSelector(where.path, allow_not_found=True))
        for info in sorted(found, key=lambda each: each.base_name):
            day = info.base_name[:10]
            if info.extension != ENDING[1:] or day < since[:10] or (until and day > until[:10]):
                continue
            # A service may just have removed it because of its age.
            with contextlib.suppress(FileNotFoundError), where.system.open_input_stream(info.path) as lines:
                yield from io.BufferedReader(lines, BUFFER_BYTES)
