"""The story's client: a job scores each day's records."""

import contextlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet

from {{ cookiecutter.__package }}.base import params


class Client:
    """Writes a day's records to a file and runs a job to score them."""

    def __init__(self, folder, environment):
        self.failed, self._folder, self._environment, self._day = 0, folder, environment, 0

    def send(self, records):
        """Score some records."""
        self._day += 1
        given, scored = self._folder / f"day-{self._day}.parquet", self._folder / "scored" / f"day-{self._day}.parquet"
        pa.parquet.write_table(pa.Table.from_pylist(records), given)
        scored.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", params.PACKAGE.name, "batch", "--input", str(given), "--output", str(scored)]
        done = subprocess.run(command, cwd=self._folder, env=self._environment, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            self.failed += len(records)
        elif (answered := pa.parquet.read_metadata(scored).num_rows) < len(records):
            self.failed += len(records) - answered


@contextlib.contextmanager
def client(folder, environment, story):
    """The client, for the duration of a with block."""
    yield Client(folder, environment)
