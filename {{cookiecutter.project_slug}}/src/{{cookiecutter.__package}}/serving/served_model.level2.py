"""What answers, put together in one place for web, batch and streaming: a registered model, with explanations."""

from __future__ import annotations

from ..model import bundle, fetch
from ..model.bundle import Bundle
from ..model.explain import Explaining
from ..model.predictor import Predictor, Predicts

locate = fetch.folder
"""Where the bundle is that is served; fetched from the registry where that names it."""


def build(served: Bundle | None = None) -> Predicts:
    """The predictor that answers, from the bundle in `locate()` unless there is one already.

    Raises:
        ModelError: there is no model to serve, or it is not one for this code.
    """
    served = served or bundle.read(locate())
    return Explaining(Predictor(served), served)
