"""Check whether a data set is fit to train on: a report to read, and an exit code for a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from .. import problem
from ..base import params, reports
from ..base.errors import Parser, UserError
from ..base.fields import Columns
from ..data import clean, drift, schema, sources
from ..data.clean import Dataset
from ..model import bundle, fetch
from ..model.bundle import ModelError

FEW = 8
"""A text column with at most this many distinct values has them listed."""


class Validation(params.Section):
    """When a data set is too poor to train on."""

    table = "validation"
    min_rows: int = Field(default=500, ge=1)
    max_dropped_share: float = Field(default=0.2, ge=0, le=1)
    max_duplicate_share: float = Field(default=0.05, ge=0, le=1)
    min_class_share: float = Field(default=0.01, ge=0, le=0.5)


@dataclass(frozen=True)
class Check:
    """One rule, what was found, and what is allowed."""

    name: str
    found: str
    allowed: str
    passed: bool


def checks(dataset: Dataset, rules: Validation) -> list[Check]:
    """Apply the rules of `[validation]` in params.toml."""
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
        Check("usable rows", f"{dataset.rows:,}", f"at least {rules.min_rows:,}", dataset.rows >= rules.min_rows),
        _share("dropped rows", dropped, rules.max_dropped_share),
        _share("repeated rows", repeated, rules.max_duplicate_share),
        _none("columns with one value only", constant),
        _none("features that alone predict the target", clean.leaks(dataset)),
        Check("choices never seen", ", ".join(unseen) or "none", "any: records with them are answered too", True),
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


def report(dataset: Dataset, raw: Columns, found: list[Check], moved: list[Moved]) -> str:
    """Markdown: the checks, what was dropped, a profile of every column of the file, and how far features have drifted.

    `raw` has the columns as they were read, before rows were dropped.
    """
    private = getattr(problem, "PRIVATE", ())
    choices = {field.name: field.choices for field in schema.FIELDS}
    profile = [
        [name, *_profile(values, choices.get(name, ()), few=0 if name in private else FEW)]
        for name, values in clean.prepared(raw).items()
    ]
    header = ["column", "type", "missing", "least", "median", "most", "values"]
    header += ["not among the choices"] if any(row[-1] for row in profile) else []
    parts = [
        f"# Data report: {dataset.name}",
        "\n".join(clean.describe(dataset)).replace("\n  ", "\n- "),
        reports.table(
            ["check", "found", "allowed", "verdict"],
            [[c.name, c.found, c.allowed, "pass" if c.passed else "FAIL"] for c in found],
        ),
        "## Columns",
        reports.table(header, [row[: len(header)] for row in profile]),
    ]
    if moved:
        said = [
            [name, f"{most:.3f}", f"{limit:.3f}", f"{over} of {windows}"] for name, most, limit, over, windows in moved
        ]
        header = ["feature", "index, at most", "limit", "windows over it"]
        parts += ["## Drift since the served model's training", reports.table(header, said)]
    return "\n\n".join(parts) + "\n"


def _profile(values: NDArray[Any], choices: tuple[Any, ...], few: int = FEW) -> list[str]:
    """Type, share of missing values, minimum, median and maximum, number of values (listed, if few), and those that are not a choice."""
    kinds = {"f": "number", "i": "number", "M": "time", "b": "yes or no", "O": "text"}
    missing = schema.missing(values)
    ordered = np.sort(values[~missing])
    known = set(ordered.tolist())
    ends, count = [""] * 3, f"{len(known):,}"
    if values.dtype.kind != "O" and len(ordered):
        shown = ordered.astype("datetime64[s]") if values.dtype.kind == "M" else ordered
        ends = [str(shown[at]).removesuffix("T00:00:00") for at in (0, len(shown) // 2, -1)]
    elif len(known) <= few:
        shares = pd.Series(ordered).value_counts(normalize=True)
        count += ": " + ", ".join(f"{value} ({share:.1%})" for value, share in shares.items())
    strange = sorted(str(value) for value in known - set(choices)) if choices else []
    return [kinds.get(values.dtype.kind, "text"), f"{missing.mean():.1%}", *ends, count, ", ".join(strange[:5])]


Moved = tuple[str, float, float, int, int]
"""A feature, its highest index, the limit in that window, the number of windows over it, and the number of windows."""


def drifted(dataset: Dataset, known: dict[str, Any], rules: drift.Drift) -> tuple[list[Moved], bool]:
    """How far each feature is from the training data in a card, window by window, and whether that is an alarm."""
    if not known.get("drift", {}).get("sizes"):
        return [], False
    told, seen = known["distribution"], drift.seen(problem.features(dataset.columns))
    indices: dict[str, list[tuple[float, float]]] = {}
    over: list[bool] = []
    for rows in drift.spans(drift.times(dataset.columns), len(dataset), known["drift"]["seconds"], rules.min_rows):
        some = {name: values[rows] for name, values in seen.items()}
        found, count = drift.psi(told, drift.counts(told, some)), rows.stop - rows.start
        limits = drift.limits_for(known["drift"], count)
        over.append(any(found[name] > limit for name, limit in limits.items() if name in found))
        for name, limit in limits.items():
            if name in found:
                indices.setdefault(name, []).append((found[name], limit))
    moved = [(name, *max(each), sum(i > limit for i, limit in each), len(each)) for name, each in indices.items()]
    few = len(over) < rules.of
    alarms = all(over) and bool(over) if few else any(drift.alarm(over[:end], rules) for end in range(1, len(over) + 1))
    return moved, alarms


def require(
    dataset: Dataset,
    raw: Columns,
    rules: Validation,
    known: dict[str, Any] | None = None,
    folder: Path = params.ROOT / "reports",
    *,
    drift_counts: bool = False,
) -> str:
    """The report of a data set that passes; it is in `folder` as `data.md` and `data.html` whether it passes or not.

    `known` is the served model's card; drift from its training data is reported, and fails only with `drift_counts`: new data
    are the reason for retraining.

    Raises:
        UserError: a check failed; the message names it with what was found and what is allowed.
    """
    found, watch = checks(dataset, rules), drift.Drift.load()
    moved, alarms = drifted(dataset, known or {}, watch)
    if moved and drift_counts:
        said = ", ".join(f"{name} in {over} of {windows}" for name, _, _, over, windows in moved if over)
        allowed = f"fewer than {watch.over} of {watch.of} windows of {watch.window} over a limit"
        found.append(Check("drift from the served model's data", said or "none", allowed, not alarms))
    text = report(dataset, raw, found, moved)
    reports.write(folder, "data", f"Data report: {dataset.name}", text)
    failed = [f"{check.name} {check.found}, allowed {check.allowed}" for check in found if not check.passed]
    if failed:
        raise UserError(
            f"{dataset.name} is not fit to train on: {'; '.join(failed)} (report: reports/data.md; "
            "rules: [validation] in params.toml)"
        )
    return text


def served() -> dict[str, Any]:
    """The served model's card; empty if none is served yet."""
    try:
        return bundle.read(fetch.folder()).card
    except ModelError:
        return {}


def main() -> None:
    """`make validate`: check DATA or the generated sample, and compare it with the served model's training data."""
    parser = Parser(prog="make validate", description=main.__doc__)
    parser.add_argument("--data", default="", help="file, folder or URL (make validate DATA=...)")
    name, raw = sources.rows(params.load().data, parser.parse_args().data)
    known = served()
    print(require(clean.clean(name, raw), raw, Validation.load(), known, drift_counts=True))
    print("" if known else "no model is served yet: there is nothing to compare the data with")
    print("report: reports/data.html")
