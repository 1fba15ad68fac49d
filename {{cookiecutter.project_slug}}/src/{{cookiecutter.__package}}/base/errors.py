"""How every command ends: an exit code, and one line with the remedy for an error that the user can fix."""

from __future__ import annotations

import argparse
import difflib
import errno
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import NoReturn

REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space, then run the command again",
    errno.EROFS: "the folder is read-only: run the command where files can be written",
    errno.EACCES: "permission denied: check who owns the file or folder",
}


class UserError(Exception):
    """An error that the user can fix; the message names the cause and the remedy in one line."""


class Parser(argparse.ArgumentParser):
    """Parses a command's arguments; what is wrong with them is one line, without a summary of all options."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` with the name of the argument, and its choices if it has some."""
        raise UserError(message.removeprefix("argument "))


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    # SQLAlchemy puts a note about autoflush first.
    lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result of")]
    return (lines or [type(error).__name__])[0][:200]


def near(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about an unknown name: the known name that was probably meant, else `otherwise`."""
    found = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {found[0]}?" if found else otherwise


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and exit: 0 or the code it returns, 1 for a `UserError`, 130 for Ctrl-C, 143 for SIGTERM.

    Unexpected errors keep their traceback: they are bugs, and it is needed to fix them.
    """
    stops: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        stops.append(143 if number == signal.SIGTERM else 130)
        raise KeyboardInterrupt  # both unwind, so that nothing half-written is left

    signal.signal(signal.SIGTERM, stop)
    # A shell's background job ignores Ctrl-C; keep it so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
    try:
        code = main() or 0
        sys.stdout.flush()
    except (KeyboardInterrupt, Exception) as error:
        # An interrupted library may raise an error of its own; the signal still decides the exit code.
        if stops or isinstance(error, KeyboardInterrupt):
            code = leave(*stops[-1:])
        elif isinstance(error, UserError):
            code = _say(str(error))
        elif isinstance(error, OSError):
            reason = REMEDIES.get(error.errno or 0, error.strerror or str(error))
            code = _say(f"{error.filename}: {reason}" if error.filename else reason)
        else:
            raise
    sys.exit(code)


def leave(code: int = 130) -> int:
    """Print why the command ends early; returns its exit code, 130 for Ctrl-C or 143 for SIGTERM."""
    _say(f"stopped by {'SIGTERM' if code == 143 else 'Ctrl-C'}; nothing half-written was left behind")
    return code


def _say(message: str) -> int:
    # A message may quote a file: control characters in it must not reach the terminal.
    line = "".join(each if each.isprintable() else "\ufffd" for each in " ".join(message.split()))
    print(f"error: {line}", file=sys.stderr)
    return 1
