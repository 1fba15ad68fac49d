"""What runs at this level, put together in one place: the model that is served, and nothing around it."""

from __future__ import annotations

from . import source
from .predictor import Predictor, Predicts


def build() -> Predicts:
    """The predictor behind the door.

    Raises:
        ModelError: there is no model to serve, or it is not one for this code.
    """
    return Predictor(source.fetch())
