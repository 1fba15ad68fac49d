"""Receive what the registry tells, and believe only what it signed a moment ago."""

import argparse
import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import time

OLDEST_SECONDS = 300


def check(secret, headers, body, now=None):
    """Why a call is not to be believed; empty if it is. `body` is the bytes as they came."""
    moment, name = headers.get("X-MLflow-Timestamp", ""), headers.get("X-MLflow-Delivery-Id", "")
    signed = f"{name}.{moment}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    if not hmac.compare_digest(expected.encode(), headers.get("X-MLflow-Signature", "").encode()):
        return "the signature is wrong"
    if abs((now or time.time()) - int(moment)) > OLDEST_SECONDS:
        return "it is too old: somebody may be repeating it"
    return ""


class Receiver(http.server.BaseHTTPRequestHandler):
    """Prints what it is told; 204 for what it believes, 401 for what it does not."""

    def do_POST(self):
        """Take one call."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wrong = check(os.environ["MLFLOW_WEBHOOK_SECRET"], self.headers, body)
        print(f"refused: {wrong}" if wrong else json.dumps(json.loads(body)), flush=True)
        self.send_response(401 if wrong else 204)
        self.end_headers()

    def log_message(self, *_):
        """What is printed above is enough."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9698)
    if not os.environ.get("MLFLOW_WEBHOOK_SECRET"):
        sys.exit("error: set MLFLOW_WEBHOOK_SECRET to what `make tracking-webhook` printed")
    http.server.HTTPServer(("127.0.0.1", parser.parse_args().port), Receiver).serve_forever()
