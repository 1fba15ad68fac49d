"""The progress of a job: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 60


class Progress:
    """Counts rows, for the duration of a with block.

    Args:
        expected: the number of rows to come, if known.
    """

    def __init__(self, expected: int = 0) -> None:
        self._expected, self._done = expected, 0
        self._started = self._said = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns
            self._bar = tqdm(total=self._expected or None, unit=" rows", unit_scale=True, ncols=width, leave=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, rows: int) -> None:
        """Count this many more rows as done."""
        self._done += rows
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(rows)
        elif now - self._said >= LINE_SECONDS:
            self._said = now
            rate = self._done / (now - self._started)
            left = f", {max(self._expected - self._done, 0) / rate:,.0f} s left" if self._expected and rate else ""
            print(f"{self._done:,} rows, {rate:,.0f} rows/s{left}", file=sys.stderr, flush=True)
