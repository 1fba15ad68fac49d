"""Who moved which alias when, from which version to which, and why: kept on the registered model itself, as tags."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import mlflow
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from . import tracking
from .cli import UserError

TAG = "move."
STALE_SECONDS = 60
"""A move takes a second; one that is not over after so long was cut off."""


@dataclass(frozen=True)
class Move:
    """An alias that went from one version to another; an empty version means none."""

    at: str
    by: str
    action: str
    alias: str
    was: str
    now: str
    reason: str


def move(client: mlflow.MlflowClient, name: str, action: str, alias: str, was: str, now: str, reason: str) -> None:
    """Note the move, then give `alias` to version `now`; where that is refused, the note goes too."""
    moment = time.time_ns() // 1000
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment // 1_000_000))
    key = f"{TAG}{moment}"
    noted = asdict(Move(at, tracking.user(), action, alias, was, now, reason))
    client.set_registered_model_tag(name, key, json.dumps(noted))
    try:
        client.set_registered_model_alias(name, alias, now)
    except MlflowException:
        with contextlib.suppress(MlflowException):
            client.delete_registered_model_tag(name, key)
        raise


def log(model: RegisteredModel) -> list[Move]:
    """Every move, the latest first."""
    tags = model.tags
    return [Move(**json.loads(tags[key])) for key in sorted(tags, reverse=True) if key.startswith(TAG)]


@contextlib.contextmanager
def alone(client: mlflow.MlflowClient, name: str) -> Iterator[None]:
    """Keep everybody else from moving the model's aliases; the store itself makes sure, as a name is there only once.

    Raises:
        UserError: somebody else is moving one.
    """
    lock = f"{name}.moving"
    try:
        client.create_registered_model(lock, tags={"by": tracking.user()})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        held = client.get_registered_model(lock)
        if time.time() - held.creation_timestamp / 1000 < STALE_SECONDS:
            who = held.tags.get("by", "somebody")
            raise UserError(
                f"{who} is moving an alias of {name} at this moment: look again with `make registry`"
            ) from None
        client.delete_registered_model(lock)
        client.create_registered_model(lock, tags={"by": tracking.user()})
    try:
        yield
    finally:
        client.delete_registered_model(lock)
