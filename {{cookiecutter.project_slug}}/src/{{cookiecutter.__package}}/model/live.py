"""Which models answer now, according to the registry: the champion, a challenger and its share; stored where services see it change."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import urllib.parse
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from ..base import params
from ..base.errors import UserError, first_line
from . import fetch
from .bundle import ModelError


class Ab(params.Section):
    """The share of the keys that the challenger answers, unless the registry's log sets another."""

    table = "ab"
    share: float = Field(default=0.0, ge=0, le=1)


class Shadow(params.Section):
    """The share of the records for which the challenger's answer is only logged, unless the registry's log sets another."""

    table = "shadow"
    share: float = Field(default=0.0, ge=0, le=1)


class Experiment(NamedTuple):
    """The versions that are compared, from when to when, the challenger's shares, and the digest of its content.

    The challenger is the one that was named when the share was given; another version that becomes challenger later
    takes no part.
    """

    champion: str
    challenger: str
    share: float
    shadow: float
    since: str
    until: str
    digest: str


def experiment(name: str) -> Experiment:
    """The experiment that the registry's log describes now; the settings of params.toml if it has no entry.

    Raises:
        UserError: the registry cannot be reached.
    """
    aliases, notes = fetch.registered(name)
    return _at(notes, aliases)


def last_experiment(name: str, action: str) -> Experiment:
    """The last time that a challenger had a share by `ab`, or answered beside the champion by `shadow`.

    Raises:
        UserError: the registry cannot be reached.
    """
    aliases, notes = fetch.registered(name)
    until = ""
    for place, latest in enumerate(notes):
        said = _at(notes[place:], {}, until)
        if said.challenger != said.champion and (said.share if action == "ab" else said.shadow):
            # A change of the other share has not ended this one.
            begun = next(
                note["at"] for note in notes[place:] if note["action"] == action or note["alias"] == "champion"
            )
            return said._replace(since=begun)
        until = latest["at"]
    return _at(notes, aliases)


def _at(notes: list[dict[str, str]], aliases: dict[str, str], until: str = "") -> Experiment:
    """The state after the latest of some entries of the log; `aliases` are the registry's, if that state is the current one."""
    moved = next((place for place, note in enumerate(notes) if note["alias"] == "champion"), len(notes))
    was, since = (notes[moved]["now"], notes[moved]["at"]) if moved < len(notes) else ("", "")
    champion = aliases.get("champion", was)
    # A new champion ends the comparison with the one before.
    given = {note["action"]: note for note in reversed(notes[:moved]) if note["action"] in ("ab", "shadow")}
    latest = next((note for note in notes[:moved] if note["action"] in given), None)
    if latest is None:
        challenger = aliases.get("challenger", "")
        return Experiment(champion, challenger, Ab.load().share, Shadow.load().share, since, until, "")
    # A share given to another challenger ends this one's.
    number = latest["version"]
    share, shadow = (
        float(given[action]["now"]) if action in given and given[action]["version"] == number else 0.0
        for action in ("ab", "shadow")
    )
    return Experiment(champion, number, share, shadow, max(since, latest["at"]), until, latest["digest"])


class State(NamedTuple):
    """The folders of the two models, the shares, the name of the experiment, which assigns keys, and why there is no challenger."""

    champion: str
    challenger: str = ""
    ab: float = 0.0
    shadow: float = 0.0
    experiment: str = ""
    left_out: str = ""

    def write(self, path: Path) -> None:
        """Replace the content of `path` atomically, unless it is the same."""
        content = json.dumps(self._asdict(), indent=2)
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".live-", dir=path.parent) as scratch:
            (Path(scratch) / "new").write_text(content, encoding="utf-8")
            (Path(scratch) / "new").replace(path)


def read(path: Path) -> State:
    """The state that was written last.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    try:
        return State(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} does not say what answers ({error}): run `make serve` again") from None


def now(uri: str) -> State:
    """Query the registry, and fetch the models that it names.

    A challenger answers only if it has a share; one that cannot be used is left out, and the champion answers alone.

    Raises:
        UserError: the registry cannot be reached, or the champion can neither be fetched nor found in the cache.
    """
    name, _, alias = uri.removeprefix("models:/").partition("@")
    said = experiment(name) if alias else None
    champion = str(fetch.folder(uri).resolve())
    if not said or not said.challenger or said.challenger == said.champion or not (said.share or said.shadow):
        return State(champion)
    try:
        challenger = str(fetch.folder(f"models:/{name}/{said.challenger}", said.digest).resolve())
    except UserError as error:
        return State(champion, left_out=f"the challenger does not take part: {first_line(error)}")
    key = f"{name} {Path(champion).name} {Path(challenger).name}"
    return State(champion, challenger, said.share, said.shadow, key)


def at_start(uri: str) -> State:
    """What `now` returns; if the registry is unavailable, its last state on this machine, else the champion in the cache.

    Raises:
        ModelError: there is no model to serve.
    """
    try:
        return now(uri)
    except UserError as error:
        kept = place(uri) if "@" in uri else None
        if kept and kept.is_file():
            last = read(kept)
            if all(Path(each).is_dir() for each in (last.champion, last.challenger) if each):
                print(f"warning: {first_line(error)}; answering by the registry's last known state", file=sys.stderr)
                return last
        return State(str(fetch.folder(uri).resolve()))


def note_asked(path: Path) -> None:
    """Record, for every reader of `path`, that the registry was queried just now."""
    path.with_suffix(".asked").touch()


def asked(path: Path) -> str | None:
    """When the registry was last queried successfully; None if unknown."""
    try:
        moment = path.with_suffix(".asked").stat().st_mtime
    except OSError:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def place(uri: str) -> Path:
    """Where the state for `uri` is stored on this machine."""
    return fetch.place(uri) / f"{urllib.parse.quote(uri, safe='')}.live.json"


def pinned() -> State | None:
    """The state in `MODEL_STATE`, if the parent process has set it."""
    path = os.environ.get("MODEL_STATE")
    return read(Path(path)) if path else None
