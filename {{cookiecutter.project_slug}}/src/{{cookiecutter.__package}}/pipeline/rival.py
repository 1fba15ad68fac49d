"""The champion's scores on a candidate's rows, also where this code has moved on: its own logged code answers then."""

from __future__ import annotations

import os
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
    """A champion that cannot be asked about these rows any more; the message says why."""


def scores(version: ModelVersion, newest: Dataset, settings: params.Data, source: str) -> NDArray[Any]:
    """What the code that a version was logged with makes of the rows of `newest`, read from `source` as that code reads it.

    Raises:
        CannotCompareError: the code is not there, or the rows lack what it needs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with store.errors():
            found = Path(
                mlflow.artifacts.download_artifacts(f"models:/{version.name}/{version.version}", dst_path=scratch)
            )
        np.save(folder / "places.npy", newest.places)
        place = (
            ""
            if newest.name == read.SAMPLE
            else str((data_lock.fetch(source) if "://" in source else Path(source)).resolve())
        )
        words = [
            params.PACKAGE.name,
            found / "code",
            found / "data" / "model",
            place,
            settings.sample_rows,
            settings.seed,
        ]
        command = [
            sys.executable,
            "-c",
            SCRIPT,
            *map(str, words),
            str(folder / "places.npy"),
            str(folder / "scores.npy"),
        ]
        # The champion's code was written by whoever registered it: it gets no password and no token of this machine.
        clean = {name: value for name, value in os.environ.items() if name in PASSED}
        try:
            done = subprocess.run(command, cwd=scratch, env=clean, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise CannotCompareError(
                f"version {version.version}'s own code does not end within {PATIENCE_SECONDS} s"
            ) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
            raise CannotCompareError(f"version {version.version}'s own code fails on these rows ({last[:200]})")
        answered: NDArray[Any] = np.load(folder / "scores.npy")
        return answered
