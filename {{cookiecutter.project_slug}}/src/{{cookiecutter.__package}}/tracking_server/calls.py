"""Calls from the registry's webhook: accepted only if they have a valid and recent signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import os
import threading
import time
from collections.abc import Callable, Mapping
from email.message import Message

from ..base.errors import UserError

OLDEST_SECONDS = 300
LONGEST = 1 << 20


def check(secret: str, headers: Mapping[str, str] | Message[str, str], body: bytes, now: float | None = None) -> str:
    """Why a call is refused; empty if it is valid. `body` is the unparsed bytes."""
    moment, name = headers.get("X-MLflow-Timestamp", ""), headers.get("X-MLflow-Delivery-Id", "")
    signed = f"{name}.{moment}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(expected.encode(), headers.get("X-MLflow-Signature", "").encode()):
        return "the signature is wrong"
    if abs((now or time.time()) - int(moment)) > OLDEST_SECONDS:
        return "it is too old: somebody may be repeating it"
    return ""


def listen(host: str, port: int, told: Callable[[bytes], None]) -> http.server.ThreadingHTTPServer:
    """Receive calls in a separate thread: 204 and `told(body)` for a valid call, 401 for any other.

    Raises:
        UserError: the port cannot be used, or `MLFLOW_WEBHOOK_SECRET` is not set.
    """
    secret = os.environ.get("MLFLOW_WEBHOOK_SECRET", "")
    if not secret:
        raise UserError("set MLFLOW_WEBHOOK_SECRET to what `make tracking-webhook` printed")

    class Receiver(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length") or "0"
            fits = length.isdecimal() and int(length) <= LONGEST
            body = self.rfile.read(int(length)) if fits else b""
            wrong = check(secret, self.headers, body) if fits else "it is too long"
            if not wrong:
                told(body)
            self.send_response(401 if wrong else 204)
            self.end_headers()
            if wrong:
                print(f"refused a call: {wrong}", flush=True)

        def log_message(self, *_: object) -> None:
            pass

    try:
        server = http.server.ThreadingHTTPServer((host, port), Receiver)
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be used ({error}): choose another one") from None
    threading.Thread(target=server.serve_forever, daemon=True, name="calls").start()
    return server
