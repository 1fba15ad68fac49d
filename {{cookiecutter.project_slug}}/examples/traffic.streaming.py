"""The story's client: it continuously sends events to a broker, and counts the answers."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, Producer

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.serving.broker import Stream


class Client:
    """Sends each record once, and waits for the answers; a second sender never stops."""

    def __init__(self, address, world):
        self.failed, self._over, self._topics = 0, threading.Event(), Stream.load()
        self._producer = Producer({"bootstrap.servers": address})
        self._consumer = Consumer({"bootstrap.servers": address, "group.id": "story", "auto.offset.reset": "earliest"})
        self._consumer.subscribe([self._topics.predictions])
        threading.Thread(target=world.trickle, args=[self._send, self._over], daemon=True).start()

    def send(self, records):
        """Send some records, and wait until each has its answer."""
        waiting = {record[problem.ID] for record in records}
        for record in records:
            self._send(record)
        self._producer.flush()
        deadline = time.monotonic() + 120
        while waiting and time.monotonic() < deadline:
            for message in self._consumer.consume(500, 1):
                if message.error() is None:
                    waiting.discard(message.key().decode())
        self.failed += len(waiting)

    def _send(self, record):
        self._producer.produce(self._topics.events, json.dumps(record).encode(), record[problem.ID].encode())
        self._producer.poll(0)

    def end(self):
        """Stop."""
        self._over.set()
        self._producer.flush(10)


@contextlib.contextmanager
def client(folder, environment, story):
    """A broker, a running worker, and their client."""
    with socket.socket() as probe, socket.socket() as side:
        probe.bind(("127.0.0.1", 0))
        side.bind(("127.0.0.1", 0))
        port, metrics = probe.getsockname()[1], side.getsockname()[1]
    address = f"127.0.0.1:{port}"
    environment = environment | {"KAFKA_BOOTSTRAP_SERVERS": address}
    commands = (
        [sys.executable, str(params.ROOT / "examples" / "broker.py"), "--port", str(port)],
        [sys.executable, "-m", params.PACKAGE.name, "stream", "--port", str(metrics)],
    )
    running = []
    with (folder / "service.log").open("w") as log:
        for command in commands:
            streams = {"stdout": log, "stderr": log, "start_new_session": True}
            running.append(subprocess.Popen(command, cwd=folder, env=environment, **streams))
            time.sleep(3)
    try:
        found = Client(address, story.world)
        yield found
        found.end()
        if running[-1].poll() is not None:
            sys.exit((folder / "service.log").read_text())
    finally:
        for each in reversed(running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(each.pid, signal.SIGTERM)
            each.wait()
