"""Which model scored a file, when, and from what: read from the file itself, and from the job's run where there is one."""

from __future__ import annotations

import argparse
import sys

from . import files, joblog
from .cli import UserError


def about(name: str) -> dict[str, str]:
    """What the Parquet file at `name` says of itself.

    Raises:
        UserError: there is no such file, or it was not written by `make score`.
    """
    found = files.metadata(files.place(name))
    if "model_run_id" not in found:
        raise UserError(f"{name} is no Parquet file that `make score` wrote: it does not say which model scored it")
    return {key: value for key, value in found.items() if key != "input_state"}


def main() -> None:
    """`make about`: tell which model scored FILE, and what its job did."""
    parser = argparse.ArgumentParser(prog="make about", description=main.__doc__)
    parser.add_argument("file", nargs="?", default="", help="a file that was scored (make about FILE=...)")
    given = parser.parse_args()
    if not given.file:
        raise UserError("which file? make about FILE=scored.parquet")
    found = about(given.file)
    try:
        found |= joblog.about(found) if found["job_run_id"] else {}
    except UserError as error:
        print(f"warning: {error}", file=sys.stderr)
    print("\n".join(f"{key:18} {value}" for key, value in found.items()))
