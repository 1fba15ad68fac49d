"""Fetch a data file once: resumed when it broke off, kept in `data/`, its checksum held in `data.lock`."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import problem
from .cli import UserError
from .params import ROOT

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


def fetch(url: str, folder: Path = ROOT / "data", lock: Path = ROOT / "data.lock") -> Path:
    """The file at `url` as a local path, downloaded unless it is already there.

    The first download of a URL writes its SHA-256 to `lock`, which belongs in git; whoever fetches it later, and every
    later use of the kept file, must get the same bytes.

    Raises:
        UserError: the file cannot be fetched, or its content is not what `lock` says.
    """
    path = folder / url.rsplit("/", 1)[-1]
    known = _read(lock)
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _resume(url, partial)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"cannot fetch {url} ({reason}): check the network and run it again (it resumes), put the file at "
                f"{path} yourself, or train on the generated sample with `make train`"
            ) from None
        partial.replace(path)
    digest = _sha256(path)
    expected = known.setdefault(url, digest)
    if digest != expected:
        path.rename(path.with_name(path.name + ".rejected"))
        raise UserError(
            f"{path.name} is not the file that {lock.name} names (kept as {path.name}.rejected): fetch it again, or "
            f"remove its line from {lock.name} if the publisher has corrected it"
        )
    if known != _read(lock):
        partial = lock.with_name(lock.name + ".partial")
        partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(lock)
    return path


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(lock: Path) -> dict[str, str]:
    try:
        return dict(json.loads(lock.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{lock.name} is damaged ({error}): bring it back with `git checkout {lock.name}`") from None
