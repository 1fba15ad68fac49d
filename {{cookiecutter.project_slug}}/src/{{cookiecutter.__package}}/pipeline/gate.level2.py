"""The gate before the registry: a model must beat the baseline and must not be worse than the champion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import Field

from .. import problem
from ..base import params
from ..base.errors import UserError
from ..data.clean import Dataset
from ..metrics import loss, metrics
from ..registry.versions import Champion
from ..tracking.conventions import Run
from ..training import evaluate


class Gate(params.Section):
    """When a trained model is good enough to be registered."""

    table = "gate"
    min_improvement: float = Field(default=0.1, ge=0, lt=1)
    max_regression: float = Field(default=0.02, ge=0)


class Judged(NamedTuple):
    """The gate's result: lines for the terminal, and Markdown for the model card."""

    lines: list[str]
    report: str = ""


def judge(trained: Run, champion: Champion, newest: Dataset, settings: params.Params) -> Judged:
    """Compare a trained model with the champion, on the rows `newest`.

    Raises:
        UserError: it may not be registered.
    """
    return Judged([require(trained.card, champion, newest, Gate.load())])


def require(card: dict[str, Any], champion: Champion, validation: Dataset, rules: Gate) -> str:
    """Why a trained model may be registered, in one sentence.

    Champion and candidate are measured on the same rows: the candidate's validation rows.

    Raises:
        UserError: it may not; the message has both figures.
    """
    worth = evaluate.beats_no_model(card, rules.min_improvement)
    if champion.model is None:
        return f"{worth}; {champion.instead}"
    metric, unit = problem.METRIC, f" {problem.UNIT}" if problem.UNIT else ""
    score, version = card["metrics"][metric], champion.model.card["model_version"]
    rival = metrics(validation.target, champion.model.measured(validation.columns))[metric]
    if not loss(metric, score) <= loss(metric, rival) * (1 + rules.max_regression):
        raise UserError(
            f"gate: {metric} {score:.4f}{unit} is worse than {rival:.4f} of champion {version} "
            f"by more than {rules.max_regression:.0%} on the same rows; nothing was registered"
        )
    return f"{metric} {score:.4f}{unit} against {rival:.4f} of champion {version} on the same rows"


def follow_up(version: str, judged: Judged) -> Iterator[str]:
    """The steps after registering the challenger, a line for each: only the line about how to promote it."""
    yield f"promote it to serve it: make promote VERSION={version}"
