"""Follow the registry as `model.following` does, and at once when its webhook calls."""

from __future__ import annotations

import os
import sys
import threading

from ..base.errors import UserError
from ..model import following
from . import calls


def main() -> None:
    """Ask the registry every few seconds what is to answer, and when it calls `FOLLOW_LISTEN` (host:port), at once."""
    following.main(_listen)


def _listen(woken: threading.Event) -> None:
    host, _, port = os.environ.get("FOLLOW_LISTEN", "").rpartition(":")
    if not port:
        return
    try:
        calls.listen(host or "127.0.0.1", int(port), lambda _: woken.set())
    except (UserError, ValueError) as error:
        # Whoever cannot be called asks all the same.
        print(
            f"warning: FOLLOW_LISTEN={host}:{port}: {error}; the registry is asked every few seconds", file=sys.stderr
        )
