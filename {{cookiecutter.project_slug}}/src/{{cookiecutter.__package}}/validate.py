"""Is a data set fit to train on? A report that a person can read, and an exit code that a pipeline can."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from . import data, drift, pages, params, problem, schema, source
from .cli import UserError
from .data import Dataset
from .package import ModelError
from .problem import Columns


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


def moved(dataset: Dataset, known: drift.Reference) -> dict[str, float]:
    """How far each feature is from what the served model was trained on: the population stability index."""
    return drift.psi(known, problem.features(dataset.columns)) if known else {}


def _drifted(indices: dict[str, float], rules: params.Validation) -> Check:
    allowed = f"a stability index of at most {rules.max_drift:g}"
    over = {name: index for name, index in indices.items() if index > rules.max_drift}
    found = ", ".join(f"{name} {index:.2f}" for name, index in sorted(over.items(), key=lambda item: -item[1]))
    return Check("drift from the served model's data", found or "none", allowed, not over)


def report(dataset: Dataset, raw: Columns, found: list[Check], indices: dict[str, float]) -> str:
    """Markdown: the verdicts, what was dropped, what every column of the file holds, and how far features have moved.

    `raw` has the columns as they were read, before rows were dropped.
    """
    lines = [
        f"# Data report: {dataset.name}",
        "",
        *data.describe(dataset),
        "",
        "| check | found | allowed | verdict |",
        "|---|---|---|---|",
    ]
    lines += [f"| {c.name} | {c.found} | {c.allowed} | {'pass' if c.passed else 'FAIL'} |" for c in found]
    lines += ["", "| column | type | missing | least | median | most | values | not among the choices |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    choices = {field.name: set(field.choices) for field in schema.FIELDS if field.choices}
    for name, values in problem.prepare(raw).items():
        lines.append("| " + " | ".join([name, *_profile(values, choices.get(name, set()))]) + " |")
    if indices:
        lines += ["", "| feature | stability index | since the served model's training |", "|---|---|---|"]
        for name, index in indices.items():
            word = "the same" if index < 0.1 else "moved" if index < 0.25 else "drifted"
            lines.append(f"| {name} | {index:.3f} | {word} |")
    return "\n".join(lines) + "\n"


def _profile(values: NDArray[Any], choices: set[Any]) -> list[str]:
    """Type, share that is missing, least, median and greatest value, how many there are, and those that are no choice."""
    kinds = {"f": "number", "i": "number", "M": "time", "b": "yes or no", "O": "text"}
    missing = schema.missing(values)
    known = values[~missing]
    ordered = np.sort(known)
    ends = [str(ordered[at]) for at in (0, len(ordered) // 2, -1)] if len(ordered) else ["", "", ""]
    strange = sorted({str(value) for value in known.tolist() if value not in choices}) if choices else []
    shown = ", ".join(strange[:5]) + (f" and {len(strange) - 5:,} more" if len(strange) > 5 else "")
    share = f"{missing.mean():.1%}" if len(values) else ""
    return [kinds.get(values.dtype.kind, "text"), share, *ends, f"{len(np.unique(known)):,}", shown]


def require(
    dataset: Dataset,
    raw: Columns,
    rules: params.Validation,
    known: drift.Reference | None = None,
    folder: Path = params.ROOT / "reports",
    *,
    drift_counts: bool = False,
) -> str:
    """The report of a data set that passes; it is in `folder` as `data.md` and `data.html` whether it passes or not.

    `known` is the served model's training data; drift from it is told, and only with `drift_counts` forbidden: new data
    are what a model is trained again for.

    Raises:
        UserError: a check failed; the message names it with what was found and what is allowed.
    """
    found, indices = checks(dataset, rules), moved(dataset, known or {})
    if indices and drift_counts:
        found.append(_drifted(indices, rules))
    text = report(dataset, raw, found, indices)
    pages.write(folder, "data", f"Data report: {dataset.name}", text)
    failed = [f"{check.name} {check.found}, allowed {check.allowed}" for check in found if not check.passed]
    if failed:
        raise UserError(
            f"{dataset.name} is not fit to train on: {'; '.join(failed)} (report: reports/data.md; "
            "rules: [validation] in params.toml)"
        )
    return text


def reference() -> drift.Reference:
    """What the served model was trained on, as its card tells; nothing where none is served yet."""
    try:
        return dict(source.fetch().card.get("distribution", {}))
    except ModelError:
        return {}


def main() -> None:
    """`make validate`: judge DATA or the generated sample, and compare it with what the served model was trained on."""
    parser = argparse.ArgumentParser(prog="make validate", description=main.__doc__)
    parser.add_argument("--data", default="", help="Parquet or CSV file or URL (make validate DATA=...)")
    settings = params.load()
    name, raw = data.raw(settings.data, parser.parse_args().data)
    known = reference()
    print(require(data.clean(name, raw), raw, settings.validation, known, drift_counts=True))
    print("" if known else "no model is served yet: there is nothing to compare the data with")
    print("reports/data.html shows the same in a browser")
