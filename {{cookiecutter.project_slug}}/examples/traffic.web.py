"""The story's client: it continuously sends requests to the service, also while the model is replaced."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from {{ cookiecutter.__package }}.base import params


class Client:
    """Sends each record once; a second sender runs all the time, so that there is always a request in progress."""

    def __init__(self, port, world):
        self.failed, self._at, self._over = 0, f"http://127.0.0.1:{port}/predict", threading.Event()
        threading.Thread(target=world.trickle, args=[self._ask, self._over], daemon=True).start()

    def send(self, records):
        """Request an answer for each record."""
        for record in records:
            self._ask(record)

    def _ask(self, record):
        request = urllib.request.Request(self._at, json.dumps(record).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()
        except OSError:
            self.failed += 1

    def end(self):
        """Stop."""
        self._over.set()


@contextlib.contextmanager
def client(folder, environment, story):
    """A running service, and its client."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", params.PACKAGE.name, "web", "--port", str(port)]
    with (folder / "service.log").open("w") as log:
        service = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
                break
            except OSError:
                if service.poll() is not None:
                    sys.exit((folder / "service.log").read_text())
                time.sleep(0.2)
        found = Client(port, story.world)
        yield found
        found.end()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(service.pid, signal.SIGTERM)
        service.wait()
