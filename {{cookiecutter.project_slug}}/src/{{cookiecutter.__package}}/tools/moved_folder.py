"""Let the runs in the project's own store be found after its folder was moved: MLflow keeps their paths absolute."""

from __future__ import annotations

import contextlib
import sys
import urllib.parse
import urllib.request
from pathlib import Path

PATHS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Where MLflow's tables name folders of artifacts."""


def bring_along(root: Path) -> None:
    """Correct the paths in `mlflow.db` of the project in `root`, where its artifacts have come along.

    A path is corrected only if what it names is in the new place and no longer in the old one, so a copy of a project
    that still exists, a link, or a store whose artifacts are elsewhere stays as it is. What is wrong with the file
    itself, MLflow tells.
    """
    database, here = root / "mlflow.db", (root / "mlartifacts").as_uri()
    if not database.exists():
        return
    # Most commands need none of it.
    import sqlite3

    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database, timeout=30)) as store, store:
        # The default experiment's is the folder of all artifacts and `/0`, as it was when the store was made.
        known = store.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
        made = known[0] if known else ""
        old = made.removesuffix("/0")
        if not old.startswith("file:") or old == here or _there(old) or not _there(here):
            return

        def moved(path: str | None) -> str | None:
            if path is None or not path.startswith(old):
                return path
            new = here + path.removeprefix(old)
            return new if path == made or _there(new) else path

        store.create_function("moved", 1, moved)
        for table, path in PATHS.items():
            store.execute(f"UPDATE {table} SET {path} = moved({path})")
        was = _path(old).parent
        print(f"the project was moved from {was}: its runs are found here now", file=sys.stderr)


def _path(address: str) -> Path:
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path))


def _there(address: str) -> bool:
    return _path(address).exists()
