"""The packaged model as MLflow's own tools load it, so that they predict by the same code as the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from . import schema
from .package import read
from .predictor import Predictor


class Model:
    """What `mlflow models serve`, `mlflow.pyfunc.load_model` and Spark call."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answers for the records in `frame`, one row each; optional fields may be left out."""
        columns = {
            field.name: frame[field.name].to_numpy(field.dtype)
            if field.name in frame
            else schema.absent(field, len(frame))
            for field in schema.FIELDS
        }
        return pd.DataFrame(self._predictor.predict(columns), index=frame.index)


def _load_pyfunc(folder: str) -> Model:
    """MLflow's entry point; it is named by `loader_module` in the logged model."""
    return Model(Predictor(read(Path(folder))))
