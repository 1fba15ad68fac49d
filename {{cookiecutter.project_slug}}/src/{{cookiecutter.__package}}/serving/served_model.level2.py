"""What answers, put together in one place for web, batch and streaming: a registered model, with explanations."""

from __future__ import annotations

import os

from ..model import bundle, conformal, fetch
from ..model.bundle import Bundle
from ..model.explain import Explaining
from ..model.predictor import Predicts

Served = Bundle
"""What a predictor is built of."""

locate = fetch.folder
"""Where the bundle is that is served; fetched from the registry where that names it."""


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
    served = served or read()
    return Explaining(conformal.predictor(served), served)


def pin() -> None:
    """What is done once, before workers start: fetch the model, so that all of them answer with the same folder.

    Raises:
        ModelError: there is no model to serve.
    """
    os.environ["MODEL_URI"] = str(locate().resolve())


begin, answering = pin, build
"""What a service does before its workers start, and the predictor of each of them."""
