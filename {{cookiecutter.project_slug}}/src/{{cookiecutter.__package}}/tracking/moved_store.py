"""Correct the store of a project whose folder was moved: MLflow stores absolute paths of artifacts."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import urllib.parse
import urllib.request
from pathlib import Path

PATHS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""The columns of MLflow's tables that contain paths."""


def correct(database: Path, artifacts: str) -> None:
    """Replace the prefix of the paths in an SQLite store by `artifacts`, if the old location no longer exists."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database, timeout=30)) as store, store:
        # The default experiment's location is the folder of all artifacts plus `/0`, as it was when the store was created.
        first = store.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
        old = first[0].removesuffix("/0") if first else ""
        if not old.startswith("file:") or old == artifacts or _path(old).exists() or not _path(artifacts).exists():
            return
        for table, path in PATHS:
            moved = f"UPDATE {table} SET {path} = ? || substr({path}, ?) WHERE substr({path}, 1, ?) = ?"
            store.execute(moved, (artifacts, len(old) + 1, len(old), old))
        print(f"the project was moved from {_path(old).parent}: its runs are found here now", file=sys.stderr)


def _path(address: str) -> Path:
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path))
