"""Registry commands: list, trace and describe versions, move the champion, and show who moved it."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pandas as pd

from ..base import reports
from ..base.errors import Parser, UserError
from ..base.params import ROOT
from ..registry import champion_log, model_card, versions
from ..tracking import conventions, store

TRACED = ("git_commit", "git_dirty", "data_source", "data_fingerprint", "data_span", "engine", "lock_fingerprint", "template_version", "team", "trigger")  # fmt: skip
"""The tags of a run that show the origin of its model."""


def listing() -> list[dict[str, str]]:
    """Every version, newest first."""
    client, name = store.connect(), conventions.model_name()
    with store.errors():
        found = client.search_model_versions(f"name = '{name}'")
        aliases = {version.version: client.get_model_version(name, version.version).aliases for version in found}
    return [
        {
            "version": str(version.version),
            "aliases": ", ".join(aliases[version.version]),
            "status": version.tags.get("status", ""),
            "run": str(version.run_id)[:8],
            "created": time.strftime("%Y-%m-%d %H:%M", time.localtime(version.creation_timestamp / 1000)),
        }
        for version in sorted(found, key=lambda version: -int(version.version))
    ]


def history() -> list[dict[str, str]]:
    """Every move of an alias, latest first: when, who, what, from which version to which, why."""
    model = versions.model()
    names = {"at": "when", "by": "who", "action": "what", "was": "from", "now": "to", "reason": "why"}
    moves = champion_log.log(model) if model else []
    rows = [{new: each[old] or "-" for old, new in names.items()} for each in moves]
    for row, each in zip(rows, moves, strict=True):
        # `from` and `to` are versions, or shares for a challenger's share.
        share = f" share of {each['version']}" if "version" in each else ""
        row |= {"when": row["when"].replace("T", " ").rstrip("Z"), "what": row["what"] + share}
    return rows


def served(at: str) -> str:
    """Which version was champion at a time in UTC (`2026-10-01T12:00`), since when and by whom.

    Raises:
        UserError: it is not a time, or there was no champion yet.
    """
    try:
        moment = datetime.fromisoformat(at).replace(tzinfo=None).isoformat()
    except ValueError:
        raise UserError(f"AT={at} is no time: write it as 2026-10-01T12:00, in UTC") from None
    moves = champion_log.log(found) if (found := versions.model()) else []
    then = next((each for each in moves if each["alias"] == versions.CHAMPION and each["at"] <= moment + "Z"), None)
    if then is None:
        raise UserError(f"there was no champion at {at} UTC")
    tried = next((each for each in moves if each["action"] == "ab" and each["at"] <= moment + "Z"), None)
    beside = f"; challenger {tried['version']} had a share of {tried['now']}" if tried and tried["now"] != "0" and tried["version"] != then["now"] else ""  # fmt: skip
    return f"version {then['now']} served at {at} UTC, since {then['at']} ({then['action']} by {then['by']}){beside}: make trace VERSION={then['now']}"


def archive(number: str) -> str:
    """Mark a version as no longer to be promoted; it can still be fetched.

    Raises:
        UserError: there is no such version, or it is the champion.
    """
    client, version, current = store.connect(), versions.find(number), versions.champion()
    if current and current.version == version.version:
        raise UserError(f"version {number} is champion: promote another one before you archive it")
    with store.errors():
        client.set_model_version_tag(version.name, number, "status", "archived")
        for alias in version.aliases:
            client.delete_registered_model_alias(version.name, alias)
    return f"version {number} is archived"


def trace(number: str) -> dict[str, str]:
    """The origin of a version: run, commit, data, lock, metrics.

    Raises:
        UserError: there is no such version, or its run is gone.
    """
    version = versions.find(number)
    with store.errors():
        run = store.connect().get_run(str(version.run_id))
    found = {
        "version": str(version.version),
        "aliases": ", ".join(version.aliases) or "none",
        "run": str(version.run_id),
    }
    found |= {name: run.data.tags.get(name, "unknown") for name in TRACED}
    return found | {name: f"{value:.6g}" for name, value in sorted(run.data.metrics.items())}


def measured(number: str) -> dict[str, float]:
    """The metrics of a version's run, to the last digit."""
    with store.errors():
        return dict(store.connect().get_run(str(versions.find(number).run_id)).data.metrics)


def card(number: str = "", folder: Path = ROOT / "docs") -> str:
    """Write the card of a version, else of the champion, to `model-card.md` and `model-card.html` in `folder`; returns a line that says so.

    Raises:
        UserError: there is no such version, or no champion yet.
    """
    version = versions.find(number) if number else versions.champion()
    if version is None:
        raise UserError("there is no champion yet: run `make pipeline` first")
    text = version.description or ""
    reports.write(folder, "model-card", version.name, text, model_card.pictures(str(version.run_id)))
    return f"{folder.name}/model-card.md and .html are the card of version {version.version}"


def main() -> None:
    """`make registry`, `log`, `promote`, `rollback`, `archive`, `trace`, `card`: show the registry, move its aliases."""
    parser = Parser(prog="registry", description=main.__doc__)
    parser.add_argument("action", choices=["list", "log", "promote", "rollback", "archive", "trace", "card"])
    parser.add_argument("version", nargs="?", default="")
    parser.add_argument("--reason", default="", help='why an alias is moved (REASON="fewer errors at night")')
    parser.add_argument("--at", default="", help="what served then (AT=2026-10-01T12:00, in UTC)")
    given = parser.parse_args()
    if given.at:
        print(served(given.at))
        return
    if given.action in ("promote", "archive", "trace") and not given.version:
        raise UserError(f"which version? make {given.action} VERSION=2 (make registry lists them)")
    if given.action in ("list", "log"):
        rows = pd.DataFrame(listing() if given.action == "list" else history()).astype(str)
        left = {str(name): f"{{:<{rows[name].str.len().max()}}}".format for name in rows}
        text = rows.to_string(index=False, justify="left", formatters=left)
        print("no version is registered yet: run `make pipeline`" if rows.empty else text)
    elif given.action == "rollback":
        print(versions.rollback(given.reason))
    elif given.action == "card":
        print(card(given.version))
    elif given.action == "trace":
        print("\n".join(f"{name:18} {value}" for name, value in trace(given.version).items()))
    else:
        print(versions.promote(given.version, given.reason) if given.action == "promote" else archive(given.version))
