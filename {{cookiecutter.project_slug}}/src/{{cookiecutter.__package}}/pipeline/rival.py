"""The champion's scores on a candidate's rows, even if this code has changed since: then the champion's own logged code runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as parquet
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from ..base import params
from ..base.errors import UserError
from ..data import parts, read
from ..data.clean import Dataset
from ..model import bundle, fetch
from ..model.bundle import Bundle
from ..tracking import store

SCRIPT = """
import importlib, pathlib, sys
import numpy as np
package, code, folder, source, rows, seed, places, answer = sys.argv[1:]
sys.path.insert(0, code)
part = lambda name: importlib.import_module(f"{package}.{name}")
problem, schema = part("problem"), part("data.schema")
raw = part("data.read").read(pathlib.Path(source)) if source else problem.sample(int(rows), int(seed))
chosen = np.load(places)
raw = {name: np.asarray(values)[chosen] for name, values in problem.prepare(raw).items()}
columns = {field.name: raw[field.name].astype(field.dtype) for field in schema.FIELDS}
model = part("model.predictor").Predictor(part("model.bundle").read(pathlib.Path(folder)))
np.save(answer, model.measured(columns))
"""

PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "TEMP", "TMP", "PYTHONUTF8", "LD_LIBRARY_PATH")
PATIENCE_SECONDS = 1_800


class CannotCompareError(UserError):
    """A champion that cannot score these rows any more; the message gives the reason."""


def scores(version: ModelVersion, newest: Dataset, settings: params.Data) -> NDArray[Any]:
    """The scores of the rows of `newest`, computed by the code that a version was logged with, which also reads them.

    Raises:
        CannotCompareError: the card does not name the code, or the rows lack columns it needs.
        UserError: the code is missing, or is not the code that the card names.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder, uri = Path(scratch), f"models:/{version.name}/{version.version}"
        with store.errors():
            code = Path(mlflow.artifacts.download_artifacts(f"{uri}/code", dst_path=scratch))
        approved, model = fetch.approved(uri), folder / "model"
        _check(code, approved)
        bundle.write(approved, model)
        again = newest.name != read.SAMPLE
        rows, places = _excerpt(newest.name, newest.places, folder / "rows") if again else ("", newest.places)
        np.save(folder / "places.npy", places)
        words = [params.PACKAGE.name, code, model, rows, settings.sample_rows, settings.seed]
        files = [folder / "places.npy", folder / "scores.npy"]
        command = [sys.executable, "-c", SCRIPT, *map(str, [*words, *files])]
        # Whoever registered the champion wrote its code: it gets no password and no token of this machine.
        clean = {name: value for name, value in os.environ.items() if name in PASSED}
        try:
            done = subprocess.run(command, cwd=scratch, env=clean, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CannotCompareError(f"version {version.version}'s own code takes over {PATIENCE_SECONDS} s") from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
            raise CannotCompareError(f"version {version.version}'s own code fails on these rows ({last[:200]})")
        answered: NDArray[Any] = np.load(folder / "scores.npy")
        return answered


def _excerpt(source: str, places: NDArray[np.int64], folder: Path) -> tuple[Path, NDArray[np.int64]]:
    """Copy the rows of some places, with all their columns, to files in `folder`; returns it, and the places in those files.

    A CSV file is copied as a whole, and so is one that shows how dates are written in all of them.
    """
    folder.mkdir()
    wanted, kept, first, dates = np.unique(places), list[NDArray[np.int64]](), 0, ""
    found = [(part.path, part.groups, part.rows) for part in parts.find(source) if part.path]
    for number, (path, groups, rows) in enumerate(found):
        if rows and not ((wanted >= first) & (wanted < first + rows)).any():
            first += rows
            continue
        table, written = read.table(path, groups=groups)
        inside, after = wanted[(wanted >= first) & (wanted < first + len(table))], first + len(table)
        if len(inside) or written.dates > dates:
            dates = dates or written.dates
            ending = next(each for each in read.FORMATS if str(path).lower().endswith(each))
            to = folder / f"{number:05}{ending}"
            if ending == ".parquet":
                parquet.write_table(table.take(inside - first), to)
            else:
                inside = np.arange(first, after)
                with read.opened(path) as whole, to.open("wb") as file:
                    shutil.copyfileobj(whole, file)
            kept.append(inside)
        first = after
    return folder, np.searchsorted(np.concatenate(kept), places)


def _check(code: Path, approved: Bundle) -> None:
    """Check that `code` is what a champion was trained with, according to its card, whose content is approved."""
    for compiled in code.rglob("__pycache__"):
        shutil.rmtree(compiled)
    there, known = [path.name for path in code.iterdir()], approved.card.get("code")
    if known is None:
        raise CannotCompareError(f"version {approved.version} does not say which code it was trained with")
    if there != [params.PACKAGE.name] or known != bundle.code_digest(code / params.PACKAGE.name):
        raise UserError(f"version {approved.version}'s code was changed since, and is not run: promote another version")
