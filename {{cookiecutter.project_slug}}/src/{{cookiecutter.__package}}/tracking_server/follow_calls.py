"""Follow the registry as `model.following` does, and query it at once when its webhook calls."""

from __future__ import annotations

import os
import sys
import threading

from ..base.errors import UserError
from ..model import following
from . import calls


def main() -> None:
    """Query the registry every few seconds, and at once when it calls `FOLLOW_LISTEN` (host:port)."""
    following.main(_listen)


def _listen(woken: threading.Event) -> None:
    host, _, port = os.environ.get("FOLLOW_LISTEN", "").rpartition(":")
    if not port:
        return
    try:
        calls.listen(host or "127.0.0.1", int(port), lambda _: woken.set())
    except (UserError, ValueError) as error:
        # Without calls, the registry is still queried regularly.
        print(
            f"warning: FOLLOW_LISTEN={host}:{port}: {error}; the registry is asked every few seconds", file=sys.stderr
        )
