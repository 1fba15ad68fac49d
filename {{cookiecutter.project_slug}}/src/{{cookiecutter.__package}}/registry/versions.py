"""The model registry: register, promote and roll back versions; `champion` is the one that serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from ..base.errors import UserError
from ..tracking import conventions, store
from . import champion_log

if TYPE_CHECKING:
    from ..model.predictor import Predictor

CHAMPION = "champion"
CHALLENGER = "challenger"


def register(model_uri: str, run_id: str, card: str) -> tuple[ModelVersion, bool]:
    """A new version of the project's model with `card` as its description, and whether it became champion.

    The first version has no champion to beat and becomes champion; a later one becomes challenger until it is promoted.
    On a server where only a maintainer moves `champion`, a member's first version is challenger too.
    """
    client, name = store.connect(), conventions.model_name()
    with store.errors():
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        model_id = model_uri.removeprefix("models:/")
        version = client.create_model_version(name, model_uri, run_id, description=card, model_id=model_id)
        first = champion() is None
        if first:
            try:
                champion_log.move(client, name, "register", CHAMPION, "", str(version.version), "the first version")
            except MlflowException as error:
                if "maintainer" not in str(error):
                    raise
                first = False
        if not first:
            client.set_registered_model_alias(name, CHALLENGER, version.version)
    return version, first


def champion() -> ModelVersion | None:
    """The version that serves, if there is one."""
    found = model()
    return find(str(found.aliases[CHAMPION])) if found and CHAMPION in found.aliases else None


class OtherChampionError(UserError):
    """The champion is no longer the version that a model was compared with."""


class Champion(NamedTuple):
    """The version that serves, its model if this code can run it, and why there is none to compare with."""

    version: ModelVersion | None
    model: Predictor | None
    instead: str


def loaded() -> Champion:
    """The champion with its model, or why there is nothing to compare with: no champion, or one that this code cannot run.

    Raises:
        ModelError: it cannot be fetched or loaded; that is no reason to skip the comparison.
    """
    # Commands that only move an alias do not need what runs a model.
    from ..model import bundle, fetch
    from ..model.predictor import Predictor

    version = champion()
    if version is None:
        return Champion(None, None, "there is no champion yet")
    try:
        return Champion(version, Predictor(bundle.read(fetch.folder(f"models:/{version.name}/{version.version}"))), "")
    except bundle.MismatchError as error:
        return Champion(version, None, f"champion {version.version} cannot be compared: {error}")


def model() -> RegisteredModel | None:
    """The registered model with its aliases and tags, if there is one."""
    # A server refuses a request for a name that does not exist; a search returns an empty list.
    with store.errors():
        found = store.connect().search_registered_models(f"name = '{conventions.model_name()}'")
    return found[0] if found else None


def promote(number: str, reason: str = "", over: str = "") -> str:
    """Make a version champion, in place of version `over` if given; the log records which one it replaced.

    Raises:
        OtherChampionError: another version than `over` is champion.
        UserError: there is no such version, it is archived, or it is champion already; somebody else moved the alias
            meanwhile; or the reason is missing and the registry is shared.
    """
    version, current = find(number), champion()
    if over and (serves := str(current.version) if current else "") != over:
        raise OtherChampionError(f"version {serves or 'none'} is champion by now, and not {over}, which was compared")
    if current and current.version == version.version:
        raise UserError(f"version {number} is champion already")
    _move("promote", current, version, reason)
    return f"version {number} is champion" + (f"; it replaced version {current.version}" if current else "")


def rollback(reason: str = "", over: str = "") -> str:
    """Restore the version that the champion (`over`, if given) has replaced.

    Raises:
        UserError: there is no champion, or none before it, or that one is archived; or as for `promote`.
    """
    current = champion()
    if current is None:
        raise UserError("there is no champion to roll back from: run `make pipeline` first")
    number = str(current.version)
    if over and number != over:
        raise OtherChampionError(f"version {number} is champion by now, and not {over}")
    log = champion_log.log(found) if (found := model()) else []
    came = (each for each in log if each["alias"] and each["now"] == number and each["action"] != "rollback")
    if not (previous := next(came, {}).get("was", "")):
        raise UserError(f"version {current.version} is the first champion: there is nothing to roll back to")
    _move("rollback", current, find(previous), reason)
    return f"version {previous} is champion again; version {current.version} was rolled back"


def _move(action: str, current: ModelVersion | None, version: ModelVersion, reason: str) -> None:
    """Move the champion's alias to a version, unless somebody else has moved it."""
    if not conventions.is_local() and not reason.strip():
        raise UserError('why? the others on this registry will ask: add REASON="fewer errors at night"')
    if version.tags.get("status") == "archived":
        raise UserError(f"version {version.version} is archived: promote another one (make registry lists them)")
    client, was = store.connect(), str(current.version) if current else ""
    with store.errors(), champion_log.alone(client, version.name):
        now = champion()
        if (str(now.version) if now else "") != was:
            raise UserError("the champion was changed by somebody else meanwhile: look again with `make registry`")
        champion_log.move(client, version.name, action, CHAMPION, was, str(version.version), reason)
        settle(client, version.name)


def settle(client: mlflow.MlflowClient, name: str) -> None:
    """Remove the challenger alias of a version that became champion."""
    aliases = client.get_registered_model(name).aliases
    if CHALLENGER in aliases and aliases[CHALLENGER] == aliases.get(CHAMPION):
        client.delete_registered_model_alias(name, CHALLENGER)


def find(number: str) -> ModelVersion:
    """The version with that number.

    Raises:
        UserError: there is none.
    """
    if not number.isdigit():
        raise UserError(f"VERSION={number!r} is no version number: give one of those that `make registry` lists")
    missing = f"there is no version {number} of {conventions.model_name()}: `make registry` lists them"
    if model() is None:
        raise UserError(missing)
    with store.errors():
        try:
            return store.connect().get_model_version(conventions.model_name(), number)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UserError(missing) from None
            raise
