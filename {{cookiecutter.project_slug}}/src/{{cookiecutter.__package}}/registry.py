"""The model registry: register, promote, roll back, archive and trace versions; `champion` is the one that serves."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from . import moves, pages, tracking
from .cli import UserError
from .params import ROOT

CHAMPION = "champion"
CHALLENGER = "challenger"


def register(model_uri: str, run_id: str, card: str) -> tuple[ModelVersion, bool]:
    """A new version of the project's model with `card` as its description, and whether it became champion.

    The first version has nobody to beat and becomes champion; a later one becomes challenger until it is promoted. On
    a server where only a maintainer moves `champion`, a member's first version is challenger too.
    """
    client, name = tracking.connect(), tracking.model_name()
    with tracking.errors():
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        model_id = model_uri.removeprefix("models:/")
        version = client.create_model_version(name, model_uri, run_id, description=card, model_id=model_id)
        first = champion() is None
        if first:
            try:
                moves.move(client, name, "register", CHAMPION, "", str(version.version), "the first version")
            except MlflowException as error:
                if "maintainer" not in str(error):
                    raise
                first = False
        if not first:
            client.set_registered_model_alias(name, CHALLENGER, version.version)
    return version, first


def champion() -> ModelVersion | None:
    """The version that serves, if there is one."""
    model = _model()
    return _version(str(model.aliases[CHAMPION])) if model and CHAMPION in model.aliases else None


def _model() -> RegisteredModel | None:
    # A server answers whoever asks for a name that is not there with a refusal; a search it answers truly.
    with tracking.errors():
        found = tracking.connect().search_registered_models(f"name = '{tracking.model_name()}'")
    return found[0] if found else None


def promote(number: str, reason: str = "") -> str:
    """Make a version champion and remember which one it replaced.

    Raises:
        UserError: there is no such version, it is archived, or it is champion already; somebody else moved the alias
            meanwhile; or there is no reason where the registry is shared.
    """
    client, name = tracking.connect(), tracking.model_name()
    version, current = _version(number), champion()
    _require_reason(reason)
    if version.tags.get("status") == "archived":
        raise UserError(f"version {number} is archived: choose another one (make registry lists them)")
    if current and current.version == version.version:
        raise UserError(f"version {number} is champion already")
    with tracking.errors(), moves.alone(client, name):
        _unchanged(current)
        was = str(current.version) if current else ""
        moves.move(client, name, "promote", CHAMPION, was, number, reason)
        client.set_model_version_tag(name, number, "replaced", was)
        if CHALLENGER in version.aliases:
            client.delete_registered_model_alias(name, CHALLENGER)
    return f"version {number} is champion" + (f"; it replaced version {current.version}" if current else "")


def rollback(reason: str = "") -> str:
    """Make the version that the champion replaced champion again.

    Raises:
        UserError: there is no champion, or none before it, or that one is archived; or as for `promote`.
    """
    client, name, current = tracking.connect(), tracking.model_name(), champion()
    _require_reason(reason)
    if current is None:
        raise UserError("there is no champion to roll back from: run `make pipeline` first")
    previous = current.tags.get("replaced", "")
    if not previous:
        raise UserError(f"version {current.version} is the first champion: there is nothing to roll back to")
    if _version(previous).tags.get("status") == "archived":
        raise UserError(f"version {previous}, the champion before, is archived: promote another one")
    with tracking.errors(), moves.alone(client, name):
        _unchanged(current)
        moves.move(client, name, "rollback", CHAMPION, str(current.version), previous, reason)
    return f"version {previous} is champion again; version {current.version} was rolled back"


def _require_reason(reason: str) -> None:
    if not tracking.is_local() and not reason.strip():
        raise UserError('why? whoever shares the registry will ask: add REASON="fewer errors at night"')


def _unchanged(current: ModelVersion | None) -> None:
    now = champion()
    if (now and now.version) != (current and current.version):
        raise UserError("the champion was changed by somebody else meanwhile: look again with `make registry`")


def history() -> list[dict[str, str]]:
    """Every move of an alias, the latest first: when, who, what, from which version to which, why."""
    model = _model()
    return [
        {
            "when": each.at.replace("T", " ").rstrip("Z"),
            "who": each.by,
            "what": each.action,
            "from": each.was or "-",
            "to": each.now,
            "why": each.reason,
        }
        for each in (moves.log(model) if model else [])
    ]


def archive(number: str) -> str:
    """Mark a version as no longer to be promoted; it stays retrievable.

    Raises:
        UserError: there is no such version, or it is the champion.
    """
    client, version, current = tracking.connect(), _version(number), champion()
    if current and current.version == version.version:
        raise UserError(f"version {number} is champion: promote another one before you archive it")
    with tracking.errors():
        client.set_model_version_tag(version.name, number, "status", "archived")
        for alias in version.aliases:
            client.delete_registered_model_alias(version.name, alias)
    return f"version {number} is archived"


def trace(number: str) -> dict[str, str]:
    """Where a version comes from: run, commit, data, lock, metrics.

    Raises:
        UserError: there is no such version, or its run is gone.
    """
    version = _version(number)
    with tracking.errors():
        run = tracking.connect().get_run(str(version.run_id))
    found = {
        "version": str(version.version),
        "aliases": ", ".join(version.aliases) or "none",
        "run": str(version.run_id),
    }
    wanted = (
        "git_commit",
        "git_dirty",
        "data_source",
        "data_fingerprint",
        "data_span",
        "lock_fingerprint",
        "template_version",
        "team",
        "trigger",
    )
    found |= {name: run.data.tags.get(name, "unknown") for name in wanted}
    return found | {name: f"{value:.6g}" for name, value in sorted(run.data.metrics.items())}


def measured(number: str) -> dict[str, float]:
    """The metrics of a version's run, to the last digit."""
    with tracking.errors():
        return dict(tracking.connect().get_run(str(_version(number).run_id)).data.metrics)


def card(number: str = "", folder: Path = ROOT / "docs") -> str:
    """Write the card of a version, else of the champion, to `model-card.md` and `model-card.html` in `folder`; says so.

    Raises:
        UserError: there is no such version, or no champion yet.
    """
    version = _version(number) if number else champion()
    if version is None:
        raise UserError("there is no champion yet: run `make pipeline` first")
    text = version.description or ""
    pages.write(folder, "model-card", version.name, text)
    return f"{folder.name}/model-card.md and .html are the card of version {version.version}"


def listing() -> list[dict[str, str]]:
    """Every version, newest first."""
    client, name = tracking.connect(), tracking.model_name()
    with tracking.errors():
        versions = client.search_model_versions(f"name = '{name}'")
        aliases = {version.version: client.get_model_version(name, version.version).aliases for version in versions}
    return [
        {
            "version": str(version.version),
            "aliases": ", ".join(aliases[version.version]),
            "status": version.tags.get("status", ""),
            "run": str(version.run_id)[:8],
            "created": time.strftime("%Y-%m-%d %H:%M", time.localtime(version.creation_timestamp / 1000)),
        }
        for version in sorted(versions, key=lambda version: -int(version.version))
    ]


def _version(number: str) -> ModelVersion:
    if not number.isdigit():
        raise UserError(f"VERSION={number!r} is no version number: give one of those that `make registry` lists")
    missing = f"there is no version {number} of {tracking.model_name()}: `make registry` lists them"
    if _model() is None:
        raise UserError(missing)
    with tracking.errors():
        try:
            return tracking.connect().get_model_version(tracking.model_name(), number)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UserError(missing) from None
            raise


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no version is registered yet: run `make pipeline`"
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in widths}, *rows]
    return "\n".join("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in lines)


def main() -> None:
    """`make registry`, `log`, `promote`, `rollback`, `archive`, `trace`, `card`: look at the registry, move its aliases."""
    parser = argparse.ArgumentParser(prog="registry", description=main.__doc__)
    parser.add_argument("action", choices=["list", "log", "promote", "rollback", "archive", "trace", "card"])
    parser.add_argument("version", nargs="?", default="")
    parser.add_argument("--reason", default="", help='why an alias is moved (REASON="fewer errors at night")')
    given = parser.parse_args()
    if given.action in ("promote", "archive", "trace") and not given.version:
        raise UserError(f"which version? make {given.action} VERSION=2 (make registry lists them)")
    if given.action in ("list", "log"):
        print(_table(listing() if given.action == "list" else history()))
    elif given.action == "rollback":
        print(rollback(given.reason))
    elif given.action == "card":
        print(card(given.version))
    elif given.action == "trace":
        print("\n".join(f"{name:18} {value}" for name, value in trace(given.version).items()))
    else:
        print(promote(given.version, given.reason) if given.action == "promote" else archive(given.version))
