"""Fetch a data file over HTTP, resumed when it broke off."""

from __future__ import annotations

import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import problem
from .cli import UserError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 20


def address(month: str = "") -> str:
    """Where the real data is published, that of a month such as `2024-01` where it comes in months.

    Raises:
        UserError: nothing is published, or `month` is not year-month.
    """
    if not problem.SOURCE:
        raise UserError("problem.py names no SOURCE to fetch from: train on a file, make train DATA=...")
    if "{month}" in problem.SOURCE and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise UserError(f"MONTH={month} is no month: write it as year-month, such as MONTH=2024-01")
    return problem.SOURCE.format(month=month)


def get(url: str, path: Path) -> None:
    """Download `url` to `path`, which appears whole or not at all; what broke off goes on where it ended.

    Raises:
        UserError: the file cannot be fetched.
    """
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _resume(url, partial)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"cannot fetch {url} ({reason}): check the network and run it again (it resumes), put the file at "
            f"{path} yourself, or train on the generated sample with `make train`"
        ) from None
    partial.replace(path)


def _resume(url: str, partial: Path) -> None:
    """Append to `partial` what is still missing of it."""
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing any more
            return
        raise
    with response:
        if response.status != 206:
            start = 0
        length = int(response.headers.get("Content-Length") or 0)
        with partial.open("ab" if start else "wb") as file, _bar(partial, start, start + length) as bar:
            while block := response.read(CHUNK_BYTES):
                file.write(block)
                bar.update(len(block))
        if length and partial.stat().st_size != start + length:
            raise ConnectionError("the connection broke off")


def _bar(partial: Path, start: int, total: int) -> Any:
    name = partial.name.removesuffix(".partial")
    width = shutil.get_terminal_size().columns
    return tqdm(desc=name, initial=start, total=total or None, unit="B", unit_scale=True, ncols=width)
