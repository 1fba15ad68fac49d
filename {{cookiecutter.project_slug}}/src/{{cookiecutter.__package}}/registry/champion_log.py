"""Who moved which alias when, from which version to which, and why: kept on the registered model itself, as tags."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import time
from collections.abc import Iterator

import mlflow
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from ..base.errors import UserError
from ..model import fetch
from ..tracking import conventions

STALE_SECONDS = 60
"""A move takes a second; one that is not over after so long was cut off."""


def move(client: mlflow.MlflowClient, name: str, action: str, alias: str, was: str, now: str, reason: str) -> None:
    """Note the move with the digest of the version's content, then give `alias` to it; where that is refused, the note goes too.

    Raises:
        ModelError: the version's bundle cannot be fetched.
    """
    digest = fetch.download(f"models:/{name}/{now}").digest
    moment = time.time_ns() // 1000
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment // 1_000_000))
    key = f"{conventions.MOVE}{moment}"
    note = {
        "at": at,
        "by": _user(),
        "action": action,
        "alias": alias,
        "was": was,
        "now": now,
        "reason": reason,
        "digest": digest,
    }
    client.set_registered_model_tag(name, key, json.dumps(note))
    try:
        client.set_registered_model_alias(name, alias, now)
    except MlflowException:
        with contextlib.suppress(MlflowException):
            client.delete_registered_model_tag(name, key)
        raise


def log(model: RegisteredModel) -> list[dict[str, str]]:
    """Every move, the latest first: `at`, `by`, `action`, `alias`, the versions `was` and `now`, `reason`."""
    tags = model.tags
    return [dict(json.loads(tags[key])) for key in sorted(tags, reverse=True) if key.startswith(conventions.MOVE)]


@contextlib.contextmanager
def alone(client: mlflow.MlflowClient, name: str) -> Iterator[None]:
    """Keep everybody else from moving the model's aliases; the store itself makes sure, as a name is there only once.

    Raises:
        UserError: somebody else is moving one.
    """
    turn = f"{name}.moving"
    try:
        client.create_registered_model(turn, tags={"by": _user()})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        held = client.get_registered_model(turn)
        # Both times are the server's own: this machine's clock may be another.
        now = client.update_registered_model(turn, description="asked for").last_updated_timestamp
        if now - held.creation_timestamp < STALE_SECONDS * 1000:
            raise UserError(
                f"{held.tags.get('by', 'somebody')} is moving an alias of {name} at this moment: look again with `make registry`"
            ) from None
        client.delete_registered_model(turn)
        client.create_registered_model(turn, tags={"by": _user()})
    try:
        yield
    finally:
        client.delete_registered_model(turn)


def _user() -> str:
    """Who works here: the name that the server knows, else that of the machine's account."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
