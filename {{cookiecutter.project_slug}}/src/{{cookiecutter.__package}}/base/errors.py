"""How every command ends: an exit code, and for what a person can mend one line that says how."""

from __future__ import annotations

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
    """Something the person at the keyboard can mend; the message names it and the remedy in one line."""


def first_line(error: BaseException) -> str:
    """What an error says, without the rest of it."""
    # SQLAlchemy begins with how it came to write, where it did so by itself.
    lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result of")]
    return (lines or [type(error).__name__])[0][:200]


def near(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message about an unknown name: the known one that was probably meant, else `otherwise`."""
    found = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {found[0]}?" if found else otherwise


def run(main: Callable[[], int | None]) -> NoReturn:
    """Call `main` and leave the process: 0 or its code, 1 for a mendable error, 130 for Ctrl-C, 143 for SIGTERM.

    Errors that nobody foresaw keep their traceback: they are bugs, and it is needed to mend them.
    """
    stops: list[int] = []

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        stops.append(143 if number == signal.SIGTERM else 130)
        raise KeyboardInterrupt  # both unwind, so that nothing half-written is left

    signal.signal(signal.SIGTERM, stop)
    # A shell's background job is deaf to Ctrl-C, and stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
    try:
        code = main() or 0
        sys.stdout.flush()
    except (KeyboardInterrupt, Exception) as error:
        # A library that is interrupted may raise an error of its own: it is the signal that ends the command.
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
    """Say why the command ends early; gives its exit code, 130 for Ctrl-C or 143 for SIGTERM."""
    _say(f"stopped by {'SIGTERM' if code == 143 else 'Ctrl-C'}; nothing half-written was left behind")
    return code


def _say(message: str) -> int:
    # A message may quote a file: nothing of it may steer the terminal.
    line = "".join(each if each.isprintable() else "\ufffd" for each in " ".join(message.split()))
    print(f"error: {line}", file=sys.stderr)
    return 1
