"""Builds the predictor that serves, for web, batch and streaming: a registered model, with explanations."""

from __future__ import annotations

import os

from ..model import bundle, conformal, fetch
from ..model.bundle import Bundle
from ..model.explain import Explaining
from ..model.predictor import Predicts

Served = Bundle
"""What a predictor is built from."""

locate = fetch.folder
"""The folder of the bundle that is served; fetched from the registry if its address is there."""


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
    served = served or read()
    return Explaining(conformal.predictor(served), served)


def pin() -> None:
    """Runs once, before workers start: fetches the model, so that all of them answer with the same folder.

    Raises:
        ModelError: there is no model to serve.
    """
    os.environ["MODEL_URI"] = str(locate().resolve())


begin, answering = pin, build
"""What a service runs before its workers start, and the predictor of each of them."""
