"""Is a data set fit to train on? A report that a person can read, and an exit code that a pipeline can."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import data, params, problem, schema
from .cli import UserError
from .data import Dataset


@dataclass(frozen=True)
class Check:
    """One rule, what was found, and what is allowed."""

    name: str
    found: str
    allowed: str
    passed: bool


def checks(dataset: Dataset, rules: params.Validation) -> list[Check]:
    """The rules of `[validation]` in params.toml, applied."""
    dropped = sum(dataset.dropped.values()) / dataset.rows_read
    duplicates = float(pd.DataFrame({**dataset.columns, "": dataset.target}).duplicated().mean())
    constant = [name for name, values in dataset.columns.items() if len(values) > 1 and (values == values[0]).all()]
    telling = data.leaks(dataset)
    return [
        Check("usable rows", f"{len(dataset):,}", f"at least {rules.min_rows:,}", len(dataset) >= rules.min_rows),
        Check(
            "dropped rows",
            f"{dropped:.1%}",
            f"at most {rules.max_dropped_share:.1%}",
            dropped <= rules.max_dropped_share,
        ),
        Check(
            "repeated rows",
            f"{duplicates:.1%}",
            f"at most {rules.max_duplicate_share:.1%}",
            duplicates <= rules.max_duplicate_share,
        ),
        Check("columns with one value only", ", ".join(constant) or "none", "none", not constant),
        Check("features that tell the target", ", ".join(telling) or "none", "none", not telling),
        *_classes(dataset, rules),
    ]


def _classes(dataset: Dataset, rules: params.Validation) -> list[Check]:
    """How even the classes are, and which choices of a field nobody has made yet."""
    unseen = [
        f"{field.name}={choice}"
        for field in schema.FIELDS
        for choice in field.choices
        if choice not in set(dataset.columns[field.name].tolist())
    ]
    checks = [Check("choices never seen", ", ".join(unseen) or "none", "any: they are answered all the same", True)]
    if problem.TASK != "regression":
        shares = np.unique(dataset.target, return_counts=True)[1] / len(dataset)
        least = float(shares.min()) if len(shares) > 1 else 0.0
        allowed = f"at least {rules.min_class_share:.1%}"
        checks.append(Check("smallest class", f"{least:.1%}", allowed, least >= rules.min_class_share))
    return checks


def report(dataset: Dataset, found: list[Check]) -> str:
    """Markdown: the verdicts, what was dropped, and the range of every column."""
    lines = [
        f"# Data report: {dataset.name}",
        "",
        *data.describe(dataset),
        "",
        "| check | found | allowed | verdict |",
        "|---|---|---|---|",
    ]
    lines += [f"| {c.name} | {c.found} | {c.allowed} | {'pass' if c.passed else 'FAIL'} |" for c in found]
    lines += ["", "| column | least | median | most | values |", "|---|---|---|---|---|"]
    for name, values in [*dataset.columns.items(), ("target", dataset.target)]:
        known = np.array(
            [value for value in values.tolist() if value is not None] if values.dtype == object else values
        )
        ordered, distinct = np.sort(known), np.unique(known)
        row = (
            [name, ordered[0], ordered[len(ordered) // 2], ordered[-1], f"{len(distinct):,}"] if len(known) else [name]
        )
        lines.append("| " + " | ".join(str(cell) for cell in row) + " |")
    return "\n".join(lines) + "\n"


def require(dataset: Dataset, rules: params.Validation, folder: Path = params.ROOT / "reports") -> str:
    """The report of a data set that passes; it is in `folder` as `data.md` whether it passes or not.

    Raises:
        UserError: a check failed; the message names it with what was found and what is allowed.
    """
    found = checks(dataset, rules)
    text = report(dataset, found)
    folder.mkdir(exist_ok=True)
    (folder / "data.md").write_text(text, encoding="utf-8")
    failed = [f"{check.name} {check.found}, allowed {check.allowed}" for check in found if not check.passed]
    if failed:
        raise UserError(
            f"{dataset.name} is not fit to train on: {'; '.join(failed)} (report: reports/data.md; "
            "rules: [validation] in params.toml)"
        )
    return text


def main() -> None:
    """`make validate`: judge DATA or the generated sample."""
    parser = argparse.ArgumentParser(prog="make validate", description=main.__doc__)
    parser.add_argument("--data", default="", help="Parquet or CSV file or URL (make validate DATA=...)")
    settings = params.load()
    print(require(data.load(settings.data, parser.parse_args().data), settings.validation))
