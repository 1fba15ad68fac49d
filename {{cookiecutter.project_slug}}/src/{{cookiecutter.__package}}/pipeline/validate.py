"""Is a data set fit to train on? A report that a person can read, and an exit code that a pipeline can."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from .. import problem
from ..base import params, reports
from ..base.errors import UserError
from ..base.fields import Columns
from ..data import clean, data_lock, drift, schema
from ..data.clean import Dataset
from ..model import bundle, fetch
from ..model.bundle import ModelError


class Validation(params.Section):
    """When a data set is too poor to train on."""

    table = "validation"
    min_rows: int = Field(default=500, ge=1)
    max_dropped_share: float = Field(default=0.2, ge=0, le=1)
    max_duplicate_share: float = Field(default=0.05, ge=0, le=1)
    min_class_share: float = Field(default=0.01, ge=0, le=0.5)
    max_drift: float = Field(default=0.25, gt=0)


@dataclass(frozen=True)
class Check:
    """One rule, what was found, and what is allowed."""

    name: str
    found: str
    allowed: str
    passed: bool


def checks(dataset: Dataset, rules: Validation) -> list[Check]:
    """The rules of `[validation]` in params.toml, applied."""
    dropped = sum(dataset.dropped.values()) / dataset.rows_read
    repeated = float(pd.DataFrame({**dataset.columns, "": dataset.target}).duplicated().mean())
    seen = {name: set(values[~schema.missing(values)].tolist()) for name, values in dataset.columns.items()}
    constant = [name for name, values in seen.items() if len(values) < 2]
    unseen = [
        f"{field.name}={choice}"
        for field in schema.FIELDS
        for choice in field.choices
        if choice not in seen[field.name]
    ]
    found = [
        Check("usable rows", f"{len(dataset):,}", f"at least {rules.min_rows:,}", len(dataset) >= rules.min_rows),
        _share("dropped rows", dropped, rules.max_dropped_share),
        _share("repeated rows", repeated, rules.max_duplicate_share),
        _none("columns with one value only", constant),
        _none("features that tell the target", clean.leaks(dataset)),
        Check("choices never seen", ", ".join(unseen) or "none", "any: they are answered all the same", True),
    ]
    if problem.TASK != "regression":
        shares = np.unique(dataset.target, return_counts=True)[1] / len(dataset)
        least = float(shares.min()) if len(shares) > 1 else 0.0
        allowed = f"at least {rules.min_class_share:.1%}"
        found.append(Check("smallest class", f"{least:.1%}", allowed, least >= rules.min_class_share))
    return found


def _share(name: str, found: float, most: float) -> Check:
    return Check(name, f"{found:.1%}", f"at most {most:.1%}", found <= most)


def _none(name: str, found: list[str]) -> Check:
    return Check(name, ", ".join(found) or "none", "none", not found)


def report(dataset: Dataset, raw: Columns, found: list[Check], indices: dict[str, float]) -> str:
    """Markdown: the verdicts, what was dropped, what every column of the file holds, and how far features have moved.

    `raw` has the columns as they were read, before rows were dropped.
    """
    choices = {field.name: field.choices for field in schema.FIELDS}
    profile = [[name, *_profile(values, choices.get(name, ()))] for name, values in problem.prepare(raw).items()]
    parts = [
        f"# Data report: {dataset.name}",
        "\n".join(clean.describe(dataset)),
        reports.table(
            ["check", "found", "allowed", "verdict"],
            [[c.name, c.found, c.allowed, "pass" if c.passed else "FAIL"] for c in found],
        ),
        reports.table(
            ["column", "type", "missing", "least", "median", "most", "values", "not among the choices"], profile
        ),
    ]
    if indices:
        words = {
            name: "the same" if index < 0.1 else "moved" if index < 0.25 else "drifted"
            for name, index in indices.items()
        }
        rows = [[name, f"{index:.3f}", words[name]] for name, index in indices.items()]
        parts.append(reports.table(["feature", "stability index", "since the served model's training"], rows))
    return "\n\n".join(parts) + "\n"


def _profile(values: NDArray[Any], choices: tuple[Any, ...]) -> list[str]:
    """Type, share that is missing, least, median and greatest value, how many there are, and those that are no choice."""
    kinds = {"f": "number", "i": "number", "M": "time", "b": "yes or no", "O": "text"}
    missing = schema.missing(values)
    ordered = np.sort(values[~missing])
    ends = [str(ordered[at]) for at in (0, len(ordered) // 2, -1)] if len(ordered) else ["", "", ""]
    known = set(ordered.tolist())
    strange = sorted(str(value) for value in known - set(choices)) if choices else []
    return [kinds[values.dtype.kind], f"{missing.mean():.1%}", *ends, f"{len(known):,}", ", ".join(strange[:5])]


def require(
    dataset: Dataset,
    raw: Columns,
    rules: Validation,
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
    found, indices = checks(dataset, rules), drift.psi(known or {}, problem.features(dataset.columns))
    if indices and drift_counts:
        over = {name: index for name, index in indices.items() if index > rules.max_drift}
        said = ", ".join(f"{name} {index:.2f}" for name, index in sorted(over.items(), key=lambda item: -item[1]))
        allowed = f"a stability index of at most {rules.max_drift:g}"
        found.append(Check("drift from the served model's data", said or "none", allowed, not over))
    text = report(dataset, raw, found, indices)
    reports.write(folder, "data", f"Data report: {dataset.name}", text)
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
        return dict(bundle.read(fetch.folder()).card.get("distribution", {}))
    except ModelError:
        return {}


def main() -> None:
    """`make validate`: judge DATA or the generated sample, and compare it with what the served model was trained on."""
    parser = argparse.ArgumentParser(prog="make validate", description=main.__doc__)
    parser.add_argument("--data", default="", help="Parquet or CSV file or URL (make validate DATA=...)")
    name, raw = data_lock.rows(params.load().data, parser.parse_args().data)
    known = reference()
    print(require(clean.clean(name, raw), raw, Validation.load(), known, drift_counts=True))
    print("" if known else "no model is served yet: there is nothing to compare the data with")
    print("reports/data.html shows the same in a browser")
