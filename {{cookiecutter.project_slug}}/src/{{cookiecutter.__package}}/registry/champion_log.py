"""Who moved which alias when, from which version to which, and why: stored as tags of the registered model itself."""

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

TURN = ".moving"
"""A registered model with this suffix exists while somebody moves an alias."""

STALE_SECONDS = 60
"""A move takes a second; one that lasts longer than this was interrupted."""


def move(client: mlflow.MlflowClient, name: str, action: str, alias: str, was: str, now: str, reason: str) -> None:
    """Log the move with the digest of the version's content, then move `alias`; if that is refused, the entry is removed.

    Raises:
        ModelError: the version's bundle cannot be fetched.
    """
    digest = fetch.download(f"models:/{name}/{now}").digest
    key = note(client, name, action, alias, was, now, reason, digest=digest)
    try:
        client.set_registered_model_alias(name, alias, now)
    except MlflowException:
        with contextlib.suppress(MlflowException):
            client.delete_registered_model_tag(name, key)
        raise


def note(
    client: mlflow.MlflowClient, name: str, action: str, alias: str, was: str, now: str, reason: str, **more: str
) -> str:
    """Add an entry to the log; returns its tag. `more` are fields that entries of some actions have."""
    clock = time.time_ns() // 1000
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock // 1_000_000))
    # An entry comes after the existing ones, whatever the clocks of the machines that wrote them.
    known = (key.removeprefix(conventions.MOVE) for key in client.get_registered_model(name).tags)
    moment = max([clock, *(int(key) + 1 for key in known if key.isdigit())])
    said = {"at": at, "by": _user(), "action": action, "alias": alias, "was": was, "now": now, "reason": reason}
    key = f"{conventions.MOVE}{moment}"
    client.set_registered_model_tag(name, key, json.dumps(said | more))
    return key


def log(model: RegisteredModel) -> list[dict[str, str]]:
    """Every move, latest first: `at`, `by`, `action`, `alias`, the versions `was` and `now`, `reason`."""
    return fetch.notes(model.tags)


@contextlib.contextmanager
def alone(client: mlflow.MlflowClient, name: str) -> Iterator[None]:
    """Keep everybody else from moving the model's aliases; the store guarantees it, because names are unique.

    Raises:
        UserError: somebody else is moving one.
    """
    turn = name + TURN
    try:
        client.create_registered_model(turn, tags={"by": _user()})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        held = client.get_registered_model(turn)
        # Both times are the server's own: this machine's clock may differ.
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
    """The current user: the name on the server, else the machine's account."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container's account may have no name
        return f"uid {os.getuid()}"
