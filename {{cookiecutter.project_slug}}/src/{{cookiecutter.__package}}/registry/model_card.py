"""The model card: a model's purpose, its data and its quality (after Mitchell et al. 2019)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlflow

from .. import problem
from ..base import reports
from ..base.errors import UserError
from ..tracking import store

SEEN = ("feature", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")


def markdown(card: dict[str, Any], data_report: str = "") -> str:
    """The card as Markdown, from a bundle's `model.json` and, where there is one, the data report."""
    data, metrics = card["data"], card["metrics"]
    sure = {name: f"{low:.4f} to {high:.4f}" for name, (low, high) in card["intervals"].items()}
    rows = [
        [name, f"{value:.4f}", sure.get(name, ""), *(f"{metrics[part + name]:.4f}" for part in ("train_", "baseline_"))]
        for name, value in metrics.items()
        if f"baseline_{name}" in metrics
    ]
    quality = reports.table(["metric", "validation", "95 % interval", "training", "without a model"], rows)
    seen = reports.table(SEEN, [[name, *reports.rounded(values)] for name, values in card["reference"].items()])
    shares = [
        [name, ", ".join(f"{value} ({share:.1%})" for value, share in each.items())]
        for name, each in card.get("shares", {}).items()
    ]
    seen += (
        "\n\n" + reports.table(["feature", "most frequent values (share of the training rows)"], shares)
        if shares
        else ""
    )
    dropped = "\n".join(f"- {count:,} rows dropped: {rule}" for rule, count in data["dropped"].items())
    return f"""# Model card: {card["name"]}

**Purpose.** {problem.TITLE} Predicts `{problem.TARGET}`{f" in {problem.UNIT}" if problem.UNIT else ""} ({problem.TASK}).

**Made** {card["created"]} by {card["team"]}: run `{card["run_id"]}`, commit `{card["git_commit"]}`,
estimator `{card["estimator"]}`, lock `{card["lock_fingerprint"]}`.

## Data

{data["name"]}, {data["span"] or "without a time"}, fingerprint `{data["fingerprint"]}`: {data["train_rows"]:,} rows to train
on, {data["validation_rows"]:,} to validate with.

{dropped}

## Quality

{quality}

{_interval(card)}{_segments(card)}{_calibration(card)}## Limits

Predictions outside what the model has seen are guesses. It has seen:

{seen}

## Explanations

Parts of a score are {"exact Shapley values" if card["explanation"]["method"] == "exact" else "sampled Shapley values"}
in {card["explanation"]["unit"]}. They say what the model does, not what causes what.

## Reproduce

`make reproduce VERSION=` and the version's number: it checks the commit out beside this folder, installs its lock, brings
the data back, trains, and compares the metrics.

{re.sub("^#", "##", data_report, flags=re.M)}"""


def _interval(card: dict[str, Any]) -> str:
    if "conformal" not in card:
        return ""
    inside, known = card["metrics"]["interval_coverage"], card["conformal"]
    return (
        f"Answers say how sure they are: {known['coverage']:.1%} of the truths are to be inside, {inside:.1%} of those of the "
        f"validation rows were (each fifth judged by the others), at {known['wide']} on average.\n\n"
    )


def _segments(card: dict[str, Any]) -> str:
    if not (parts := card["segments"]):
        return ""
    rows = [
        [part["feature"], part["part"], f"{part['rows']:,}", *(f"{value:.4f}" for value in part["metrics"].values())]
        for part in parts
    ]
    header = ["feature", "part", "rows", *parts[0]["metrics"]]
    return f"### By part of the validation rows\n\n{reports.table(header, rows)}\n\n"


def _calibration(card: dict[str, Any]) -> str:
    if "calibration" not in card:
        return ""
    rows = [[f"{each['said']:.3f}", f"{each['came_true']:.3f}", f"{each['rows']:,}"] for each in card["calibration"]]
    return f"### Calibration\n\n{reports.table(['said on average', 'came true', 'rows'], rows)}\n\n"


def pictures(run_id: str) -> dict[str, bytes]:
    """The run's plots by name; empty if the run no longer has any."""
    try:
        with store.errors():
            folder = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="plots"))
    except UserError:
        return {}
    return {path.stem.replace("_", " "): path.read_bytes() for path in sorted(folder.glob("*.png"))}
