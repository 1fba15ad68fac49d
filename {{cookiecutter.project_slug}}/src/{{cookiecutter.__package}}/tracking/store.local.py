"""The connection to the tracking store, and its errors in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mlflow
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from ..base.errors import UserError, first_line
from . import conventions


def connect(address: str = "") -> mlflow.MlflowClient:
    """Point MLflow at the tracking store, at `address` or the project's; creates a new SQLite file.

    Raises:
        UserError: the store cannot be opened or created.
    """
    with errors():
        conventions.point_mlflow_at(address or conventions.uri())
        return mlflow.MlflowClient()


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Turn MLflow's errors for a store that is unavailable, full, read-only or forbidden into one line with the remedy."""
    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError) as error:
        raise UserError(
            f"MLflow at {mlflow.get_tracking_uri()}: {first_line(error)}; check that it can be reached and written"
        ) from None
