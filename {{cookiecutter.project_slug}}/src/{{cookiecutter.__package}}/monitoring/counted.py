"""Counts of answered and refused records for Prometheus: by version and role, over all workers of a service."""

from __future__ import annotations

import collections
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .. import problem
from ..base import params
from ..base.fields import Columns
from ..model.following import Around
from ..model.predictor import Predicts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TOGETHER = "PROMETHEUS_MULTIPROC_DIR"
"""The folder in which the workers of a service share their counts; prometheus-client reads the variable on import."""

SEEN = params.ROOT / "reports" / "monitor.prom"
"""The last results of `make monitor` and `make operate`, if they run beside the service."""

BUCKETS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)


def together() -> None:
    """Let the workers that this process is about to start count in one folder; a single worker counts for itself."""
    if "prometheus_client" not in sys.modules:
        os.environ[TOGETHER] = tempfile.mkdtemp(prefix="metrics-", dir=os.environ.get(TOGETHER))


class Counts:
    """The counters of a worker."""

    def __init__(self) -> None:
        # Imported only once it is known whether workers count together.
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self.registry = known = CollectorRegistry()
        self.answers = Counter("model_predictions", "Predictions", ["version", "role"], registry=known)
        self.refused = Counter("model_refused", "Requests or events without a valid record", registry=known)
        self.failed = Counter("model_failures", "Calls of the model that ended in an error", registry=known)
        about = "Seconds for the predictions of a request or a batch"
        self.seconds = Histogram("model_seconds", about, buckets=BUCKETS, registry=known)


class Counted(Around):
    """A predictor whose answers are counted.

    Args:
        inner: the predictor; its answers have `model_version` and `role`.
        counts: where they are counted.
    """

    def __init__(self, inner: Predicts, counts: Counts | None = None) -> None:
        super().__init__(inner)
        self._counts = counts or Counts()

    def snapshot(self) -> Predicts:
        """The current predictor, counted."""
        return Counted(self._inner.snapshot(), self._counts)

    def refused(self, count: int) -> None:
        """Count records that were refused."""
        self._counts.refused.inc(count)
        super().refused(count)

    def predict(self, columns: Columns) -> dict[str, NDArray[Any]]:
        """The answers of the wrapped predictor."""
        started = time.perf_counter()
        try:
            answers = self._inner.predict(columns)
        except Exception:  # any error is counted and raised again
            self._counts.failed.inc()
            raise
        self._counts.seconds.observe(time.perf_counter() - started)
        pairs = zip(answers["model_version"].tolist(), answers["role"].tolist(), strict=True)
        for labels, count in collections.Counter(pairs).items():
            self._counts.answers.labels(*labels).inc(count)
        return answers

    @property
    def card(self) -> dict[str, Any]:
        """The model's description of itself, the number of answers of each version, and the last result of a monitor on this machine."""
        from prometheus_client.parser import text_string_to_metric_families as parsed

        text = self.metrics().decode() + (SEEN.read_text(encoding="utf-8") if SEEN.is_file() else "")
        found: dict[str, dict[str, float]] = collections.defaultdict(dict)
        for each in (sample for family in parsed(text) for sample in family.samples):
            found[each.name][" ".join(each.labels[name] for name in sorted(each.labels))] = each.value
        window, card = found["monitor_window"], self._inner.card
        kept = [name for name in (problem.METRIC, "expected") if name in window]
        told = {f"last_window_{name}": window[name] for name in kept}
        alarms = {"alarms": ", ".join(found["monitor_alarm"]) or None} if window else {}
        answers = {name: int(count) for name, count in found["model_predictions_total"].items()}
        return {**card, "serving": {**card.get("serving", {}), "answers": answers, **told, **alarms}}

    def metrics(self) -> bytes:
        """All counts and the current model, in Prometheus's text format."""
        from prometheus_client import CollectorRegistry, generate_latest, multiprocess

        if TOGETHER not in os.environ:
            shown = self._counts.registry
        else:
            shown = CollectorRegistry()
            multiprocess.MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        now = CollectorRegistry()
        now.register(_Now(self._inner))
        return generate_latest(shown) + generate_latest(now)


class _Now:
    """Gauges that are computed from the model on request."""

    def __init__(self, model: Predicts) -> None:
        self._model = model

    def collect(self) -> Iterator[Metric]:
        """The version that answers, the challenger's share, lost lines of the log, and when the registry was last queried."""
        from prometheus_client.core import GaugeMetricFamily

        card = self._model.card
        serving = card.get("serving", {})
        yield GaugeMetricFamily("model_champion", "Number of the version that answers", _number(card["model_version"]))
        yield GaugeMetricFamily("model_challenger_share", "Share of the keys that the challenger answers", serving.get("share") or 0)  # fmt: skip
        yield GaugeMetricFamily("model_log_lines_lost", "Lines of this worker that could not be logged", serving.get("log_lines_lost") or 0)  # fmt: skip
        if asked := serving.get("registry_asked"):
            yield GaugeMetricFamily("model_registry_asked_seconds", "When the registry was asked last", datetime.fromisoformat(asked).timestamp())  # fmt: skip


def _number(version: str) -> float:
    return float(version) if version.isdigit() else 0.0
