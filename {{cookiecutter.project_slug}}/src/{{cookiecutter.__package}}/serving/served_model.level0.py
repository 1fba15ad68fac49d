"""What answers, put together in one place for web, batch and streaming: the model in a folder, and nothing around it."""

from __future__ import annotations

import os

from ..model import bundle, load
from ..model.bundle import Bundle
from ..model.predictor import Predictor, Predicts

Served = Bundle
"""What a predictor is built of."""

locate = load.folder
"""Where the bundle is that is served."""


def read() -> Served:
    """What is to answer.

    Raises:
        ModelError: there is no model to serve.
    """
    return bundle.read(locate())


def build(served: Served | None = None) -> Predicts:
    """The predictor that answers; of what `read` gives, unless that is here already.

    Raises:
        ModelError: there is no model to serve, or it is not one for this code.
    """
    return Predictor(served or read())


def pin() -> None:
    """What is done once, before workers start: all of them answer with the same folder.

    Raises:
        ModelError: there is no model to serve.
    """
    os.environ["MODEL_URI"] = str(locate().resolve())


begin, answering = pin, build
"""What a service does before its workers start, and the predictor of each of them."""
