"""The gate before the registry: a model must beat the baseline and must not be worse than the champion."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .. import problem
from ..base import params
from ..base.errors import UserError
from ..data.clean import Dataset
from ..metrics import loss, metrics
from ..model.predictor import Predictor


class Gate(params.Section):
    """When a trained model is good enough to be registered."""

    table = "gate"
    min_improvement: float = Field(default=0.1, ge=0, lt=1)
    max_regression: float = Field(default=0.02, ge=0)


def require(
    card: dict[str, Any],
    champion: Predictor | None,
    validation: Dataset,
    rules: Gate,
    instead: str = "there is no champion yet",
) -> str:
    """Why a trained model may be registered, in one sentence; `instead` says why there is no champion to compare it with.

    Champion and candidate are measured on the same rows: those the candidate was validated with. The candidate has not
    seen them; an older champion may have, which can only favour the champion.

    Raises:
        UserError: it may not; the message has both figures.
    """
    metric, unit = problem.METRIC, f" {problem.UNIT}" if problem.UNIT else ""
    score, baseline = card["metrics"][metric], card["metrics"][f"baseline_{metric}"]
    if not loss(metric, score) <= loss(metric, baseline) * (1 - rules.min_improvement):
        raise UserError(
            f"gate: {metric} {score:.4f}{unit} is not better than {baseline:.4f}, which needs no model, by "
            f"{rules.min_improvement:.0%}; nothing was registered"
        )
    if champion is None:
        return f"{metric} {score:.4f}{unit} beats {baseline:.4f} without a model; {instead}"
    rival = metrics(validation.target, champion.measured(validation.columns))[metric]
    if not loss(metric, score) <= loss(metric, rival) * (1 + rules.max_regression):
        raise UserError(
            f"gate: {metric} {score:.4f}{unit} is worse than {rival:.4f} of champion {champion.card['model_version']} "
            f"by more than {rules.max_regression:.0%} on the same rows; nothing was registered"
        )
    return (
        f"{metric} {score:.4f}{unit} against {rival:.4f} of champion {champion.card['model_version']} on the same rows"
    )
