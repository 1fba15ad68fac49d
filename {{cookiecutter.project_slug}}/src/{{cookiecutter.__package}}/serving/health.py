"""A worker's HTTP endpoints on a side port: `/metrics` for Prometheus, `/livez` and `/readyz` for an orchestrator."""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..base.errors import UserError
from ..model.predictor import Predicts

STUCK_SECONDS = 60
"""A worker whose loop has not run for this long counts as dead."""


class Timed(Protocol):
    """A message with a timestamp."""

    def timestamp(self) -> tuple[int, int]:
        """Its kind, and milliseconds since 1970."""


class Health:
    """A worker's metrics and its state.

    Args:
        predictor: the model, for the labels of `model_info`.
    """

    def __init__(self, predictor: Predicts) -> None:
        self._predictor = predictor
        self.registry = CollectorRegistry()
        self._events = Counter("events", "Events read", registry=self.registry)
        self._predictions = Counter("predictions", "Predictions acknowledged", registry=self.registry)
        self._dead = Counter("dead_letters", "Events that could not be answered", registry=self.registry)
        self._lag = Gauge("lag", "Events that wait", ["partition"], registry=self.registry)
        sizes = [1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000]
        self._sizes = Histogram("batch_size", "Events a batch", buckets=sizes, registry=self.registry)
        self._latency = Histogram(
            "latency_seconds", "From an event's own time to its acknowledged prediction", registry=self.registry
        )
        self._model = Gauge("model_info", "The model that answers", ["version", "run_id"], registry=self.registry)
        self.events = 0
        self.refused = ""
        self.reachable = True
        self.partitions: set[int] = set()
        self._joined = False
        self._beat = time.monotonic()

    def beat(self) -> None:
        """Record that the worker's loop has run."""
        self._beat = time.monotonic()

    def count(self, messages: Sequence[Timed], dead: int, lag: dict[int, int]) -> None:
        """Add a batch that was answered and acknowledged, and the number of waiting events in each partition."""
        self.events += len(messages)
        self._events.inc(len(messages))
        self._predictions.inc(len(messages) - dead)
        self._dead.inc(dead)
        self._sizes.observe(len(messages))
        now = time.time()
        for message in messages:
            self._latency.observe(max(now - message.timestamp()[1] / 1000, 0))
        for partition, waiting in lag.items():
            self._lag.labels(str(partition)).set(waiting)

    def metrics(self) -> bytes:
        """All metrics and the current model, in Prometheus's text format."""
        card = self._predictor.card
        self._model.clear()
        self._model.labels(card["model_version"], card["run_id"]).set(1)
        counted = getattr(self._predictor, "metrics", bytes)
        return prometheus_client.generate_latest(self.registry) + counted()

    def assign(self, partitions: Iterable[int]) -> None:
        """The partitions are now assigned to this worker."""
        self._joined = True
        self.partitions |= set(partitions)
        self.reached()

    def revoke(self, partitions: Iterable[int]) -> None:
        """The partitions are now assigned to another worker."""
        for partition in set(partitions) & self.partitions:
            self.partitions.discard(partition)
            with contextlib.suppress(KeyError):
                self._lag.remove(str(partition))

    def lost(self, where: str) -> None:
        """The broker no longer answers."""
        if self.reachable:
            print(f"the broker at {where} cannot be reached; trying until it answers", file=sys.stderr, flush=True)
        self.reachable = False

    def reached(self) -> None:
        """The broker has answered."""
        if not self.reachable:
            print("the broker answers again", file=sys.stderr, flush=True)
        self.reachable = True

    def ready(self) -> str:
        """Why the worker is not ready; empty if it is."""
        if not self.reachable:
            return "the broker cannot be reached"
        return "" if self._joined else "not in the consumer group yet"

    def alive(self) -> str:
        """Why the worker is not alive; empty if it is."""
        silent = time.monotonic() - self._beat
        return f"no sign of life for {silent:.0f} s" if silent > STUCK_SECONDS else ""


@contextlib.contextmanager
def serve(state: Health, host: str, port: int) -> Iterator[None]:
    """Serve the side port for the duration of a with block.

    Raises:
        UserError: the port cannot be used.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            checks = {"/livez": state.alive, "/readyz": state.ready}
            if self.path == "/metrics":
                status, kind = 200, prometheus_client.CONTENT_TYPE_LATEST
                content = state.metrics()
            elif self.path in checks:
                why_not = checks[self.path]()
                status, kind = (503 if why_not else 200), "application/json"
                content = json.dumps({"status": why_not or "ok"}).encode()
            else:
                status, kind, content = 404, "text/plain", b"/metrics, /livez, /readyz"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    try:
        server = http.server.ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be used ({error}): choose another one, make stream PORT=9700") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
