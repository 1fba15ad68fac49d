"""The model card: what a model is for, what it was made from, how good it is (after Mitchell et al. 2019)."""

from __future__ import annotations

from typing import Any

from . import problem


def markdown(card: dict[str, Any], data_report: str = "") -> str:
    """The card as Markdown, from a package's `model.json` and, where there is one, the data report."""
    data, metrics = card["data"], card["metrics"]
    sure = {name: f"{low:.4f} to {high:.4f}" for name, (low, high) in card["intervals"].items()}
    rows = "\n".join(
        f"| {name} | {metrics[name]:.4f} | {sure.get(name, '')} | {metrics['train_' + name]:.4f} "
        f"| {metrics['baseline_' + name]:.4f} |"
        for name in metrics
        if f"baseline_{name}" in metrics
    )
    dropped = "\n".join(f"- {count:,} rows dropped: {rule}" for rule, count in data["dropped"].items())
    quantiles = "\n".join(f"| {name} | {' | '.join(map(str, values))} |" for name, values in card["reference"].items())
    return f"""# Model card: {card["name"]}

**Purpose.** {problem.TITLE} Predicts `{problem.TARGET}`{f" in {problem.UNIT}" if problem.UNIT else ""} ({problem.TASK}).

**Made** {card["created"]} by {card["team"]}: run `{card["run_id"]}`, commit `{card["git_commit"]}`,
estimator `{card["estimator"]}`, lock `{card["lock_fingerprint"]}`.

## Data

{data["name"]}, {data["span"] or "without a time"}, fingerprint `{data["fingerprint"]}`: {data["train_rows"]:,} rows to train
on, {data["validation_rows"]:,} to validate with.

{dropped}

## Quality

| metric | validation | 95 % interval | training | without a model |
|---|---|---|---|---|
{rows}

## Limits

Predictions outside what the model has seen are guesses. It has seen:

| feature | least | 5 % | 25 % | median | 75 % | 95 % | most |
|---|---|---|---|---|---|---|---|
{quantiles}

## Reproduce

Check the commit out, run `make setup`, and train on the data with this fingerprint: the same metrics come out.

{data_report.replace("# ", "## ", 1)}"""
