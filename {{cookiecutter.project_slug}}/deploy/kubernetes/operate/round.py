"""One round of operation in a pod: the image's code, in a folder of a volume that keeps what rounds write.

What came true is delivered as files in the folder `incoming` there. Words that are given go to `operate`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

IMAGE, HERE = Path(__file__).resolve().parent, Path.cwd()
PACKAGE = next((IMAGE / "src").glob("*/__main__.py")).parent.name
COMMAND = [sys.executable, "-m", PACKAGE]


def alone() -> None:
    """Wait until no other round is in this folder; the lock goes with this process, whatever program it runs then."""
    held = os.open(HERE / ".round.lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(held, True)
    fcntl.flock(held, fcntl.LOCK_EX)


def bring() -> None:
    """Copy the image's code and settings; what they replace may be another image's."""
    for name in ("src", "tests"):
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.copytree(IMAGE / name, HERE / name)
    for name in ("Pipfile.lock", "pyproject.toml", "params.toml"):
        shutil.copy(IMAGE / name, HERE / name)
    # Rounds add files to the lock; for a file that both locks name, the image's entry is the one that the team committed.
    locks = [json.loads(lock.read_bytes()) for folder in (HERE, IMAGE) if (lock := folder / "data.lock").is_file()]
    partial = HERE / "data.lock.partial"
    partial.write_text(json.dumps({name: entry for lock in locks for name, entry in lock.items()}), encoding="utf-8")
    partial.replace(HERE / "data.lock")


def take_truths() -> None:
    """Keep what came true, a file at a time; one that cannot be read is in `incoming/refused` afterwards, and the log says why."""
    incoming = HERE / "incoming"
    for name in ("reading", "taken", "refused"):
        (incoming / name).mkdir(parents=True, exist_ok=True)
    for path in incoming.glob("[!.]*"):
        if path.is_file():
            # Renamed first: another file may be delivered under the same name while this one is read.
            path.replace(incoming / "reading" / f"{time.time_ns()}-{path.name}")
    for path in sorted((incoming / "reading").iterdir()):
        done = subprocess.run([*COMMAND, "truth", "--data", str(path)], check=False)
        path.replace(incoming / ("refused" if done.returncode else "taken") / path.name)


if __name__ == "__main__":
    alone()
    bring()
    os.environ["PYTHONPATH"] = str(HERE / "src")
    # The files of the lock come from DATA_STORE, or from the address at which they were published.
    if (IMAGE / "data.lock").is_file():
        subprocess.run([*COMMAND, "data"], check=False)
    take_truths()
    os.execv(sys.executable, [*COMMAND, "operate", *sys.argv[1:]])
