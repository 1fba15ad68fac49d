"""Read predictions back from the lines that services wrote."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from . import prediction_log
from .prediction_log import ENDING

REMEMBERED = 1_000_000
"""The number of ids remembered to skip duplicates: a worker that died between two steps answers its last events again."""


def rows(folder: Path | None = None, since: str = "", until: str = "") -> Iterator[dict[str, Any]]:
    """Every prediction once, by day: `prediction_id`, `time`, `model_version`, `role`, `milliseconds`, `record`, `answer`.

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
    for path in sorted((folder or prediction_log.folder()).glob(f"*{ENDING}")):
        if path.name[:10] < since[:10] or (until and path.name[:10] > until[:10]):
            continue
        # A service may just have removed it because of its age.
        with contextlib.suppress(FileNotFoundError), path.open("rb") as lines:
            yield from lines
