"""The data for retraining: the training data, and the logged records with known truth since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray
from pydantic import Field

from .. import problem
from ..base import params
from ..base.errors import UserError
from ..base.fields import Columns
from ..data import clean, data_lock, drift, schema, sources
from ..data.drift import DURATION, Lasting, Positive
from ..monitoring import windows
from . import validate


class Retrain(params.Section):
    """When a model is retrained, and with what: `all` data, only records with truth from the last `window`, or `weights`.

    With `weights` a row is sampled with a probability that halves with each `half_life` of its age: on average, this equals
    weighting the rows.
    """

    table = "retrain"
    rule: str = Field(default="all", pattern="^(all|window|weights)$")
    window: Lasting = "30d"
    half_life: Positive = "90d"
    every: str = Field(default="", pattern=f"^({DURATION})?$")
    new_rows: int = Field(default=0, ge=0)
    cooldown: Lasting = "1d"
    budget: int = Field(default=3, ge=0)


def data(card: dict[str, Any]) -> str:
    """Write the training rows to a file in `data/`, add it to `data.lock`, and return its path.

    If a rule leaves too few rows for a model, the rule is `all`.

    Args:
        card: the champion's.

    Raises:
        UserError: the training data cannot be read, or rows without a time are to be weighted by age.
    """
    rules, settings = Retrain.load(), params.load()
    if rules.rule == "weights" and not problem.TIME:
        raise UserError('[retrain] rule = "weights" needs rows with a time (TIME of problem.py): use "all" or "window"')
    since = windows.stamp(windows.ago(drift.seconds(rules.window))) if rules.rule == "window" else ""
    parts = list(_true(since, card))
    if rules.rule != "window" or sum(len(each[schema.TRUE]) for each in parts) < validate.Validation.load().min_rows:
        known = clean.clean(*sources.rows(settings.data))
        parts.insert(0, {**known.columns, schema.TRUE: known.target})
    whole = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    if rules.rule == "weights":
        kept = _by_age(whole[problem.TIME], drift.seconds(rules.half_life), settings.data.seed)
        if kept.sum() >= validate.Validation.load().min_rows:
            whole = {name: values[kept] for name, values in whole.items()}
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
    """The number of predictions since then whose truth is known."""
    return sum(map(len, windows.true(_answered, since)))


def _by_age(times: NDArray[Any], half_life: int, seed: int) -> NDArray[np.bool_]:
    """Which rows are selected, shape (n,): the newest always, as are rows without a time; one `half_life` seconds older with probability 0.5."""
    past = times[~np.isnat(times) & (times <= np.datetime64("now"))]
    age = np.nan_to_num((past.max(initial=np.datetime64(0, "s")) - times) / np.timedelta64(half_life, "s")).clip(0)
    return np.asarray(np.random.default_rng(seed).random(len(age)) < 0.5**age, bool)


def _answered(row: dict[str, Any]) -> bool:
    return bool(row["role"] != "shadow")


def _true(since: str, card: dict[str, Any]) -> Iterator[Columns]:
    """Logged records with their truth."""
    for batch in windows.true(_answered, since):
        target = windows.numbers([came for _, came in batch], card)
        # A class that the model does not know has no index yet.
        known = ~np.isnan(target)
        found = windows.columns(row for row, _ in batch)
        yield {name: values[known] for name, values in {**found, schema.TRUE: target}.items()}
