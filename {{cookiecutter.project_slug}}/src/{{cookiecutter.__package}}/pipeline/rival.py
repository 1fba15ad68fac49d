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
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from ..base import params
from ..base.errors import UserError
from ..data import data_lock, read
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


def scores(version: ModelVersion, newest: Dataset, settings: params.Data, source: str) -> NDArray[Any]:
    """The scores of the rows of `newest`, computed by the code that a version was logged with and read from `source` by that code.

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
        np.save(folder / "places.npy", newest.places)
        here = "" if newest.name == read.SAMPLE else data_lock.fetch(source) if "://" in source else Path(source)
        place = str(Path(here).resolve()) if here else ""
        words = [params.PACKAGE.name, code, model, place, settings.sample_rows, settings.seed]
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


def _check(code: Path, approved: Bundle) -> None:
    """Check that `code` is what a champion was trained with, according to its card, whose content is approved."""
    for compiled in code.rglob("__pycache__"):
        shutil.rmtree(compiled)
    there, known = [path.name for path in code.iterdir()], approved.card.get("code")
    if known is None:
        raise CannotCompareError(f"version {approved.version} does not say which code it was trained with")
    if there != [params.PACKAGE.name] or known != bundle.code_digest(code / params.PACKAGE.name):
        raise UserError(f"version {approved.version}'s code was changed since, and is not run: promote another version")
