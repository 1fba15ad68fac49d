"""Builds the predictor that serves, for web, batch and streaming: the model in a folder."""

from __future__ import annotations

import os

from ..model import bundle, load
from ..model.bundle import Bundle
from ..model.predictor import Predictor, Predicts

Served = Bundle
"""What a predictor is built from."""

locate = load.folder
"""The folder of the bundle that is served."""


def read() -> Served:
    """The model that answers.

    Raises:
        ModelError: there is no model to serve.
    """
    return bundle.read(locate())


def build(served: Served | None = None) -> Predicts:
    """The predictor that answers; from `served`, else from what `read` returns.

    Raises:
        ModelError: there is no model to serve, or it does not fit this code.
    """
    return Predictor(served or read())


def pin() -> None:
    """Runs once, before workers start: all of them answer with the same folder.

    Raises:
        ModelError: there is no model to serve.
    """
    os.environ["MODEL_URI"] = str(locate().resolve())


begin, answering = pin, build
"""What a service runs before its workers start, and the predictor of each of them."""
