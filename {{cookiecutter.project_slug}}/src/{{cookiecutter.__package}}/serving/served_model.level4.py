"""What answers, put together in one place for web, batch and streaming: champion and challenger, logged, followed, counted."""

from __future__ import annotations

import os
from pathlib import Path

from .. import problem
from ..model import ab_split, fetch, following, load
from ..model.following import Following
from ..model.predictor import Predicts
from ..monitoring import counted, prediction_log
from ..monitoring.prediction_log import Log, Logged, PredictionLog

locate = fetch.folder
"""Where the champion's bundle is; fetched from the registry where that names it."""

Served = ab_split.Served
"""Champion and challenger, and what the registry says of them."""
read = ab_split.read
build = ab_split.build
"""The predictor of a job, which keeps both to its end."""


def pin() -> None:
    """What is done once, before workers start: fetch the models, so that all of them answer with the same ones.

    Raises:
        ModelError: there is no model to serve.
    """
    following.pin(load.address())


def begin() -> None:
    """What a service does before its workers start: `pin`, ask the registry again and again, and have workers count together.

    Raises:
        ModelError: there is no model to serve.
    """
    counted.together()
    following.begin()


def answering() -> Predicts:
    """The predictor of a service's worker: it logs and counts each prediction, and follows what the registry says.

    Raises:
        ModelError: there is no model to serve, it is not one for this code, or nothing can be logged.
    """
    log = PredictionLog(prediction_log.folder(), Log.load(), tuple(getattr(problem, "PRIVATE", ())))
    log.check()
    state = os.environ.get("MODEL_STATE")
    inner = Following(Path(state), lambda said: build(read(said), log)) if state else build(None, log)
    return counted.Counted(Logged(inner, log))
