"""A predictor that is replaced while it answers: it follows a file that names the models to use."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..base import params
from ..base.errors import Parser, UserError, first_line
from ..base.fields import Columns
from . import live, load
from .live import State
from .predictor import Predicts

LOOK_SECONDS = 1.0
"""How often a worker checks whether the file has changed."""

ASK_SECONDS = 3.0
"""How often the registry is queried, once per machine."""

AGAIN = """trap exit INT TERM; trap '' HUP; until "$@"; do kill -0 $PPID 2> /dev/null || exit 0; sleep 3; done"""
"""Run a command until it succeeds, and restart it if it fails, as long as this shell's parent process is alive."""


class Around:
    """A wrapper around a predictor, which delegates what it does not do itself."""

    def __init__(self, inner: Predicts) -> None:
        self._inner = inner

    @property
    def card(self) -> dict[str, Any]:
        """The model's description of itself."""
        return self._inner.card

    @property
    def additions(self) -> Mapping[str, Any]:
        """What can be requested in addition to an answer."""
        return self._inner.additions

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of an answer besides those of `problem.Answer`."""
        return self._inner.fields

    def refused(self, count: int) -> None:
        """Count records that were refused."""
        self._inner.refused(count)


class Following(Around):
    """Answers with the last usable model that the file named; one that cannot be used is refused, and the old one is kept.

    Args:
        path: the file that `live.State` writes.
        build: makes a predictor from the file's content.

    Raises:
        ModelError: what the file names cannot be used, and no earlier model can.
    """

    def __init__(self, path: Path, build: Callable[[State], Predicts]) -> None:
        self._path, self._build = path, build
        self._seen = self._stamp()
        super().__init__(build(live.read(path)))
        self._refused: str | None = None
        # Each worker starts its own: a thread does not survive a fork.
        threading.Thread(target=self._look, daemon=True, name="following").start()

    @property
    def card(self) -> dict[str, Any]:
        """The model's description of itself, why the last one was refused, if it was, and when the registry was last queried."""
        card = self._inner.card
        now = {"refused": self._refused, "registry_asked": live.asked(self._path)}
        return {**card, "serving": {**card.get("serving", {}), **now}}

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The answers of the current predictor."""
        return self._inner.predict(columns)

    def snapshot(self) -> Predicts:
        """The current predictor."""
        return self._inner

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino

    def _look(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            stamp = self._stamp()
            if stamp in (self._seen, (0, 0)):
                continue
            self._seen = stamp
            try:
                fresh = self._build(live.read(self._path))
            except Exception as error:  # whatever it is, this thread must keep watching
                self._refused = first_line(error)
                print(f"warning: new model refused, the old one stays: {self._refused}", file=sys.stderr, flush=True)
                continue
            # Assigning a name is atomic: an answer that has begun ends with the model that began it.
            old, self._inner, self._refused = self._inner, fresh, None
            getattr(old, "close", lambda: None)()
            beside = fresh.card.get("serving", {})
            named = beside.get("challenger")
            tried = f"; challenger {named} has a share of {beside['share']:g}" if named else ""
            print(f"now answering with model {fresh.card['model_version']}{tried}", flush=True)


def pin(uri: str) -> None:
    """Fetch the models that answer, and pass their location to this process and its children.

    Raises:
        ModelError: there is no model to serve.
    """
    state = live.at_start(uri)
    os.environ["MODEL_URI"] = state.champion
    if uri.startswith("models:/"):
        place = live.place(uri)
        state.write(place)
        os.environ["MODEL_STATE"] = str(place)


def begin() -> None:
    """Pin the models that answer, and start a process that keeps querying the registry; it ends with this one.

    Raises:
        ModelError: there is no model to serve.
    """
    uri = load.address()
    pin(uri)
    if "@" not in uri:
        return
    command = [sys.executable, "-m", params.PACKAGE.name, "follow", "--uri", uri, "--beside"]
    # It exits with 0 once this process and its workers are gone; after any other exit it is started again.
    again = [] if sys.platform == "win32" else ["sh", "-c", AGAIN, "follow"]
    theirs, ours = os.pipe()
    os.set_inheritable(ours, True)  # by the program that replaces this process
    subprocess.Popen([*again, *command], stdin=theirs)
    os.close(theirs)


def main(called: Callable[[threading.Event], None] | None = None) -> None:
    """Write the registry's state where services see it change; `called` gets an event that triggers a query at once."""
    parser = Parser(prog="follow", description="Write the registry's state to a file for services.")
    parser.add_argument("--uri", default="", help="models:/<name>@champion")
    parser.add_argument("--state", type=Path, help="the file that services read (MODEL_STATE)")
    parser.add_argument("--beside", action="store_true", help="end when the standard input does")
    parser.add_argument("--instead", default="", help="the model folder if the registry cannot be reached at the start")
    given = parser.parse_args()
    uri, woken, over = given.uri or load.address(), threading.Event(), threading.Event()
    if "@" not in uri:
        raise UserError(f"{uri} names one version: only an alias, as models:/<name>@champion, can be followed")
    said, path = "", given.state or live.place(uri)
    if called:
        called(woken)
    if given.beside:
        threading.Thread(target=_until_end, args=(over, woken), daemon=True).start()
    while True:
        woken.clear()
        try:
            state = live.now(uri)
            state.write(path)
            live.note_asked(path)
            line = state.left_out
        except Exception as error:  # the registry is another program: any error may be temporary
            line = first_line(error)
            if given.instead and not path.is_file():
                State(given.instead).write(path)
        if line and line != said:
            print(f"warning: {line}", file=sys.stderr, flush=True)
        said = line
        woken.wait(ASK_SECONDS)
        if over.is_set():
            return


def _until_end(*told: threading.Event) -> None:
    # Not through `sys.stdin`, whose lock this thread would hold when Python exits.
    while os.read(0, 4096):
        pass
    for each in told:
        each.set()
