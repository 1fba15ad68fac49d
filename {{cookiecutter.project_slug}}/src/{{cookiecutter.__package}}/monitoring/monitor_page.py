"""The monitor's page, with a figure for each feature and one of quality, and its metrics for Prometheus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import prometheus_client
from matplotlib.figure import Figure
from prometheus_client import CollectorRegistry, Gauge

from .. import problem
from ..base import params, reports
from ..model import fetch
from ..tracking import conventions
from . import ab_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .monitor import Look

REPORTS = params.ROOT / "reports"
MARKED = ("promote", "rollback", "retrain")
"""Decisions that are marked in the figures."""


def write(looks: Sequence[Look], alarms: dict[str, str], card: dict[str, Any], now: dict[str, list[float]]) -> None:
    """`reports/monitor.html`: the alarms, the windows, and figures of them.

    Args:
        looks: the windows, oldest first.
        alarms: cause -> why.
        card: the champion's.
        now: the share of each bin of each feature in the last window.
    """
    said = "\n".join(f"- alarm **{name}**: {why}" for name, why in alarms.items()) or "No alarm."
    rows = [
        [
            each.begin[:19],
            each.end[11:19],
            each.champion,
            *(_shown(each, name) for name in ("answers", "refused", problem.METRIC)),
            ", ".join(each.causes) or "-",
        ]
        for each in reversed(looks)
    ]
    watched = card.get("drift", {})
    left = ", ".join(watched.get("left_out", ()))
    header = ["from", "to (UTC)", "champion", "answers", "refused", problem.METRIC, "over a limit"]
    parts = [
        f"# Monitor: {conventions.model_name()}",
        said,
        "## Windows",
        reports.table(header, rows),
        f"Not watched, as they differ in every window by their nature: {left}." if left else "",
    ]
    _, notes = fetch.registered(conventions.model_name())
    marks = [note for note in notes if note["action"] in MARKED]
    metric = {"in use": problem.METRIC, "on the validation rows": "expected"}
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    _lines(figure.subplots(), looks, marks, f"{problem.METRIC} in use", metric)
    pictures = {problem.METRIC: ab_report.png(figure)}
    for name in watched.get("limits", {}):
        figure = Figure(figsize=(11, 2.4), layout="constrained")
        axes, beside = figure.subplots(1, 2, width_ratios=(8, 5))
        lines = {"index": f"drift_{name}", "limit": f"limit_{name}"}
        _lines(axes, looks, marks, f"How far {name} is from the training data", lines)
        _bars(beside, card["distribution"][name], now.get(name, []))
        pictures[name] = ab_report.png(figure)
    reports.write(REPORTS, "monitor", f"Monitor: {conventions.model_name()}", "\n\n".join(parts), pictures)


def _shown(look: Look, name: str) -> str:
    value = look.figures.get(name)
    return "no truth yet" if value is None else f"{value:,.4g}" if name == problem.METRIC else f"{value:,.0f}"


def _bars(axes: Axes, then: dict[str, list[float]], now: list[float]) -> None:
    """The share of each bin in the training data and in the last window; the first bin is for lower values, the last for missing ones."""
    places = np.arange(len(then["shares"]))
    axes.bar(places - 0.2, then["shares"], 0.4, color="grey", label="training data")
    if now:
        axes.bar(places + 0.2, now, 0.4, color="C0", label="last window")
    labels = ["lower", *(f"{edge:.3g}" for edge in then["edges"]), "missing"]
    axes.set_xticks(places, labels, fontsize=7, rotation=45 if len(labels) > 8 else 0)
    axes.set_title("Share of rows from each value on", fontsize="medium")
    axes.legend(fontsize="small")


def _lines(axes: Axes, looks: Sequence[Look], marks: list[dict[str, str]], title: str, lines: dict[str, str]) -> None:
    """Two series over the windows, the second one dashed, with the interval of the first if it has one."""
    for (label, name), style in zip(lines.items(), ("o-", "--"), strict=True):
        # A window that is too small to have a limit would only stretch the scale.
        needed = {name, name.replace("drift_", "limit_")}
        known = [(place, each.figures) for place, each in enumerate(looks) if needed <= each.figures.keys()]
        places, values = [place for place, _ in known], [figures[name] for _, figures in known]
        axes.plot(places, values, style, label=label, color="grey" if style == "--" else "C0")
        if known and all(f"{name}_low" in figures for _, figures in known):
            low, high = ([figures[f"{name}_{end}"] for _, figures in known] for end in ("low", "high"))
            axes.fill_between(places, low, high, color="C0", alpha=0.2, linewidth=0)
    for number, note in enumerate(reversed(marks)):
        place = sum(each.end[:19] < note["at"][:19] for each in looks) - 0.5
        if place > 0:
            axes.axvline(place, color="C3", linewidth=0.8)
            axes.text(
                place,
                1 - number % 3 * 0.25,
                f"{note['action']} {note['now']}",
                transform=axes.get_xaxis_transform(),
                fontsize=7,
                va="top",
            )
    step = max(1, math.ceil(len(looks) / 6))
    axes.set_xticks(
        range(0, len(looks), step), [each.begin[5:16].replace("T", " ") for each in looks[::step]], fontsize=7
    )
    axes.set_title(title, fontsize="medium")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


REGISTRY = CollectorRegistry()
GAUGES = {
    kind: Gauge(f"monitor_{kind}", about, [label], registry=REGISTRY)
    for kind, label, about in (
        ("drift", "feature", "Stability index of the last window"),
        ("limit", "feature", "From which index on a window of so many answers is over"),
        ("missing", "feature", "Share of the last window's records without a value"),
        ("window", "figure", "Figures of the last window"),
        ("alarm", "cause", "1 for a cause that is an alarm"),
    )
}
LOOKED = Gauge("monitor_last_look_seconds", "When the log was looked at last", registry=REGISTRY)


def expose(looks: Sequence[Look], alarms: dict[str, str]) -> None:
    """Set the metrics of `make operate`, and write them to `reports/monitor.prom` for node-exporter's textfile collector."""
    for gauge in GAUGES.values():
        gauge.clear()
    for name, value in (looks[-1].figures if looks else {}).items():
        kind, _, feature = name.partition("_")
        known = kind in GAUGES and feature
        (GAUGES[kind].labels(feature) if known else GAUGES["window"].labels(name)).set(value)
    for cause in alarms:
        GAUGES["alarm"].labels(cause).set(1)
    LOOKED.set_to_current_time()
    REPORTS.mkdir(exist_ok=True)
    prometheus_client.write_to_textfile(str(REPORTS / "monitor.prom"), REGISTRY)
