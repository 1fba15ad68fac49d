"""Fetch a data file over HTTP, resumed when it broke off."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from ..base.errors import UserError

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 20


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
        bar = tqdm(
            desc=partial.stem, initial=start, total=start + length or None, unit="B", unit_scale=True, leave=False
        )
        with partial.open("ab" if start else "wb") as file, bar:
            while block := response.read(CHUNK_BYTES):
                file.write(block)
                bar.update(len(block))
        if length and partial.stat().st_size != start + length:
            raise ConnectionError("the connection broke off")
