"""What a model is trained again with: the training data, and what was answered since and came true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet
from pydantic import Field

from ..base import params
from ..base.fields import Columns
from ..data import clean, data_lock, drift, schema
from ..data.drift import Lasting
from ..monitoring import windows
from . import validate


class Retrain(params.Section):
    """When a model is trained again, and with what: `all` there is, or only what came true within `window`."""

    table = "retrain"
    rule: str = Field(default="all", pattern="^(all|window)$")
    window: Lasting = "30d"
    every: str = Field(default="", pattern=r"^(\d+[smhdw])?$")
    new_rows: int = Field(default=0, ge=0)
    cooldown: Lasting = "1d"
    budget: int = Field(default=3, ge=0)


def data(card: dict[str, Any]) -> str:
    """Write the rows to train with to a file of `data/` that `data.lock` names, and give its path.

    Where too little has come true for a model of its own, the rule is `all`.

    Args:
        card: the champion's.

    Raises:
        UserError: the training data cannot be read.
    """
    rules, settings = Retrain.load(), params.load()
    since = windows.stamp(windows.ago(drift.seconds(rules.window))) if rules.rule == "window" else ""
    parts = list(_true(since, card))
    if rules.rule == "all" or sum(len(each[schema.TRUE]) for each in parts) < validate.Validation.load().min_rows:
        known = clean.clean(*data_lock.rows(settings.data))
        parts.insert(0, {**known.columns, schema.TRUE: known.target})
    whole = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    target = whole[schema.TRUE]
    columns = {name: values for name, values in whole.items() if name != schema.TRUE}
    rows = clean.Dataset("what came true", columns, target, len(target), {}, np.arange(len(target)))
    path = params.ROOT / "data" / f"retrain-{rows.fingerprint}.parquet"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        partial = path.with_suffix(".partial")
        pyarrow.parquet.write_table(schema.table(whole), partial)
        partial.replace(path)
    data_lock.keep(path, whole, "the training data and what came true")
    return path.relative_to(params.ROOT).as_posix()


def came(since: str) -> int:
    """Of how many predictions that were made since then the truth is known."""
    return sum(map(len, windows.true(_answered, since)))


def _answered(row: dict[str, Any]) -> bool:
    return bool(row["role"] != "shadow")


def _true(since: str, card: dict[str, Any]) -> Iterator[Columns]:
    """Records of the log with what came true of them."""
    for batch in windows.true(_answered, since):
        target = windows.numbers([came for _, came in batch], card)
        # A class that the model does not know has no number yet.
        known = ~np.isnan(target)
        found = windows.columns(row for row, _ in batch)
        yield {name: values[known] for name, values in {**found, schema.TRUE: target}.items()}
