"""Load a model from a folder: for the service, and for MLflow's own tools as a pyfunc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import params
from ..base.params import ROOT
from ..data import schema
from . import bundle
from .predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd


class Service(params.Section):
    """The model that answers."""

    table = "service"
    model: str = "model"


def address() -> str:
    """The address of the model that answers: `MODEL_URI`, else `service.model` in params.toml."""
    return os.environ.get("MODEL_URI") or str(Service.load().model)


def folder() -> Path:
    """The folder of the model at `address`."""
    return ROOT / address()


class Model:
    """The model for `mlflow models serve`, `mlflow.pyfunc.load_model` and Spark; it predicts with the same code as the service."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answers for the records in `frame`, one row each; optional fields may be left out."""
        absent = {field.name: schema.absent(field, len(frame)) for field in schema.FIELDS if not field.required}
        given = {field.name: frame[field.name].to_numpy(field.dtype) for field in schema.FIELDS if field.name in frame}
        return type(frame)(self._predictor.predict(absent | given), index=frame.index)


def _load_pyfunc(path: str) -> Model:
    """MLflow's entry point; `loader_module` of the logged model names this module."""
    return Model(Predictor(bundle.read(Path(path))))
