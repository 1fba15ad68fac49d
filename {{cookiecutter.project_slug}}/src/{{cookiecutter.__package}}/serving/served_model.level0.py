"""What answers, put together in one place for web, batch and streaming: the model in a folder, and nothing around it."""

from __future__ import annotations

from ..model import bundle, load
from ..model.bundle import Bundle
from ..model.predictor import Predictor, Predicts

locate = load.folder
"""Where the bundle is that is served."""


def build(served: Bundle | None = None) -> Predicts:
    """The predictor that answers, from the bundle in `locate()` unless there is one already.

    Raises:
        ModelError: there is no model to serve, or it is not one for this code.
    """
    return Predictor(served or bundle.read(locate()))
