"""Builds the predictor that serves, for web, batch and streaming: champion and challenger, logged, updated from the registry."""

from __future__ import annotations

import os
from pathlib import Path

from .. import problem
from ..model import ab_split, fetch, following, load
from ..model.following import Following
from ..model.predictor import Predicts
from ..monitoring import prediction_log
from ..monitoring.prediction_log import Log, Logged, PredictionLog

locate = fetch.folder
"""The folder of the champion's bundle; fetched from the registry if its address is there."""

Served = ab_split.Served
"""Champion and challenger, and the registry's state."""
read = ab_split.read
build = ab_split.build
"""The predictor of a job, which uses the same models to its end."""


def pin() -> None:
    """Runs once, before workers start: fetches the models, so that all of them answer with the same ones.

    Raises:
        ModelError: there is no model to serve.
    """
    following.pin(load.address())


begin = following.begin
"""What a service runs before its workers start: `pin`, and a process that keeps querying the registry."""


def answering() -> Predicts:
    """The predictor of a service's worker: it logs each prediction, and follows the registry.

    Raises:
        ModelError: there is no model to serve, it does not fit this code, or the log cannot be written.
    """
    log = PredictionLog(prediction_log.folder(), Log.load(), tuple(getattr(problem, "PRIVATE", ())))
    log.check()
    state = os.environ.get("MODEL_STATE")
    inner = Following(Path(state), lambda said: build(read(said), log)) if state else build(None, log)
    return Logged(inner, log)
