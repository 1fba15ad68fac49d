"""Get data: restore what `data.lock` lists, fetch published data, write the generated sample, or add a file to the lock."""

from __future__ import annotations

import re
from pathlib import Path

from .. import problem
from ..base import params
from ..base.errors import Parser, UserError
from ..base.params import ROOT
from ..data import clean, data_lock, read, sources
from .write_sample import write_sample


def address(month: str = "") -> str:
    """The URL of the published data, for a month such as `2024-01` if it is published by month.

    Raises:
        UserError: nothing is published, or `month` is not year-month.
    """
    if not problem.SOURCE:
        raise UserError("problem.py names no SOURCE to fetch from: train on a file, make train DATA=...")
    if "{month}" in problem.SOURCE and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise UserError(f"MONTH={month} is no month: write it as year-month, such as MONTH=2024-01")
    return problem.SOURCE.format(month=month)


def main() -> None:
    """`make data`: restore what `data.lock` lists, fetch the published data, add a file to it, or write the sample."""
    parser = Parser(prog="make data", description=main.__doc__)
    parser.add_argument("--month", default="", help="the month to fetch (make data MONTH=2024-01)")
    parser.add_argument("--fetch", action="store_true", help="fetch the real data (make data FETCH=1)")
    parser.add_argument("--keep", default="", help="file to name in data.lock (make data KEEP=data/rows.parquet)")
    parser.add_argument("--drift", action="store_true", help="let the generated sample drift (make data DRIFT=1)")
    given = parser.parse_args()
    origin = address(given.month) if given.month or given.fetch else ""
    if origin:
        path = sources.fetch(origin)
    elif given.keep:
        path = Path(given.keep).resolve()
    elif data_lock.entries() and not given.drift:
        print("\n".join(data_lock.restore_all()))
        return
    else:
        path = write_sample(params.load().data, drift=given.drift)
    columns = read.read(path)
    print("\n".join(clean.describe(clean.clean(path.name, columns))))
    if origin or given.keep:
        print(data_lock.keep(path, columns, origin))
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    print(f"train on it: make train DATA={shown}")
