"""How far data have drifted from the training data, and the limit above which that is more than chance."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .. import problem
from ..base import params
from ..base.fields import Columns

FEW = 20
"""A feature with at most this many values has a bin for each; one with more has ten bins with equal numbers of rows."""

LEAST_SHARE = 1e-4
"""The share that an empty bin counts as: the logarithm of 0 is undefined."""

DRIFTED = 0.25
"""By convention, a feature with an index above this has drifted."""

SIZES = (100, 130, 170, 220, 300, 400, 550, 750, 1_000, 1_500, 2_500, 5_000, 10_000)
"""The window sizes for which limits are computed, in rows: the index of a small window varies more by chance alone."""

WINDOWS = 400
"""The number of windows of each size."""

ENOUGH = 200_000
"""The reference and the limits are computed from at most this many training rows."""

PREDICTION = "prediction"
"""The name under which the model's predictions are watched, like a feature."""

Reference = dict[str, dict[str, list[float]]]
Seen = Mapping[str, NDArray[Any]]
"""Name of a feature -> its values for n rows, shape (n,)."""
Counts = dict[str, NDArray[np.int64]]
"""Name of a feature -> the number of rows in each of its bins; the counts of two sets of rows can be added."""


DURATION = r"\d{1,5}[smhdw]"
"""What `seconds` parses; with more digits a window could begin before the year 1."""
Lasting = Annotated[str, Field(pattern=f"^{DURATION}$")]
Positive = Annotated[str, Field(pattern=r"^[1-9]\d{0,4}[smhdw]$")]


class Drift(params.Section):
    """The length of a window, how often one may be over a limit by chance, and what makes an alarm."""

    table = "drift"
    window: Positive = "1d"
    false_alarms: float = Field(default=0.03, gt=0, le=0.5)
    min_rows: int = Field(default=100, ge=20)
    over: int = Field(default=2, ge=1)
    of: int = Field(default=3, ge=1)

    @property
    def seconds(self) -> int:
        """The length of a window in seconds."""
        return seconds(self.window)


def seconds(text: str) -> int:
    """A duration such as `90s`, `5m`, `12h`, `1d` or `2w` in seconds.

    Raises:
        ValueError: it is not a duration.
    """
    if not re.fullmatch(DURATION, text):
        raise ValueError(f"{text} is no time: write it as 30s, 5m or 1h, with five digits at most")
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}[text[-1]]


def seen(features: NDArray[np.float32], predictions: NDArray[Any] | None = None) -> Seen:
    """The columns of n rows of features, shape (n, features), and their predictions, (n,) or (n, classes)."""
    found = dict(zip(problem.FEATURES, features.T, strict=True))
    if predictions is not None:
        said = predictions if predictions.ndim == 1 else predictions.argmax(axis=1)
        found[PREDICTION] = said.astype(np.float32)
    return found


def chosen(rows: int) -> NDArray[np.int64]:
    """The places of the rows to learn from, ascending: at most `ENOUGH`, chosen at random because every tenth may be alike."""
    return np.sort(np.random.default_rng(0).choice(rows, min(rows, ENOUGH), replace=False, shuffle=False))


def times(columns: Columns) -> NDArray[np.int64] | None:
    """The time of each of n records in seconds since 1970, shape (n,); None if the problem has no time."""
    return columns[problem.TIME].astype("datetime64[s]").astype(np.int64) if problem.TIME else None


def reference(known: Seen) -> Reference:
    """For each feature of n rows, the edges of its bins and the share of the rows in each."""
    found = {}
    for name, values in known.items():
        given = np.unique(values[~np.isnan(values)])
        edges = given if len(given) <= FEW else np.unique(np.nanquantile(values, np.linspace(0, 1, 11)))
        bins = np.bincount(_places(edges, values), minlength=len(edges) + 2)
        found[name] = {"edges": edges.astype(float).tolist(), "shares": (bins / max(len(values), 1)).tolist()}
    return found


def counts(known: Reference, now: Seen) -> Counts:
    """The number of n rows in each bin; features that only one of the two has are left out."""
    return {
        name: np.bincount(_places(np.array(known[name]["edges"]), values), minlength=len(known[name]["shares"]))
        for name, values in now.items()
        if name in known
    }


def psi(known: Reference, found: Counts) -> dict[str, float]:
    """The population stability index of each feature: 0 for the same distribution (Siddiqi 2006)."""
    return {
        name: float(_parts(np.array(known[name]["shares"]), bins / max(bins.sum(), 1)).sum())
        for name, bins in found.items()
    }


def limits(known: Reference, rows: Seen, moments: NDArray[np.int64] | None, rules: Drift, seed: int) -> dict[str, Any]:
    """The index above which a window is further off than the training data's own windows are.

    Windows begin at random times of the training data, because its days differ more than random rows do; if the rows have
    no time, a window is a random sample. Each is compared with the rest of the rows. The share `false_alarms` of them has
    some feature over its limit. A feature that is far off in nearly every window, such as the weekday in a day, is left
    out and listed.

    Args:
        known: the `reference` of the rows.
        rows: training rows, oldest first; `chosen` says how many are enough.
        moments: the times of the rows in seconds, shape (n,), or None.
        rules: length of a window, the share, and the minimum number of rows.
        seed: for the random choice.
    """
    rng, names, found = np.random.default_rng(seed), list(known), {}
    # The bins of all features, one after the other; where each feature's begin.
    first = np.cumsum([0, *(len(each["shares"]) for each in known.values())])[:-1]
    places = first + np.column_stack([_places(np.array(known[name]["edges"]), rows[name]) for name in names])
    length = lasts(moments, len(places), rules)
    for size in [rules.min_rows, *(each for each in SIZES if each > rules.min_rows)]:
        windows = list(_windows(moments, len(places), size, length, rng))
        if len(windows) >= WINDOWS // 4:
            found[size] = _apart(places, first, windows)
    if not found:
        return {"seconds": length, "sizes": [], "limits": {}, "left_out": []}
    watched = np.quantile(found[max(found)], 0.05, axis=0) <= DRIFTED
    held = []
    for apart in found.values():
        usual = np.maximum(np.quantile(apart, 1 - rules.false_alarms, axis=0), LEAST_SHARE)
        # One factor for all features, so that the share of windows over any limit is the one that is asked for.
        most = (apart / usual)[:, watched].max(axis=1, initial=0)
        held.append(usual * np.quantile(most, 1 - rules.false_alarms))
    return {
        "seconds": length,
        "sizes": list(found),
        "limits": {name: [round(float(row[at]), 5) for row in held] for at, name in enumerate(names) if watched[at]},
        "left_out": [name for at, name in enumerate(names) if not watched[at]],
    }


def limits_for(known: dict[str, Any], rows: int) -> dict[str, float]:
    """The limit of each watched feature for a window of this many rows; empty if those are too few."""
    if not known["sizes"] or rows < known["sizes"][0]:
        return {}
    # The random part of an index shrinks with the number of rows.
    sizes = 1 / np.array(known["sizes"][::-1], np.float64)
    return {name: float(np.interp(1 / rows, sizes, each[::-1])) for name, each in known["limits"].items()}


def alarm(windows: Sequence[bool], rules: Drift) -> bool:
    """Whether at least `over` of the last `of` windows are over a limit."""
    return sum(windows[-rules.of :]) >= rules.over


def lasts(moments: NDArray[np.int64] | None, total: int, rules: Drift) -> int:
    """The length of a training window in seconds: as configured, or the multiple of it that contains enough rows."""
    if moments is None:
        return rules.seconds
    usual = total * rules.seconds / max(int(moments[-1] - moments[0]), 1)
    times = math.ceil(2 * rules.min_rows / max(usual, 1e-9)) if usual < rules.min_rows else 1
    return rules.seconds * max(1, times)


def spans(moments: NDArray[np.int64] | None, total: int, length: int, least: int) -> Iterator[slice]:
    """The rows of each window of `length` seconds with at least `least` rows, oldest first; all rows if they have no time."""
    if moments is None:
        yield slice(0, total)
        return
    begins = np.arange(moments[0] // length * length, moments[-1] + 1, length)
    for low, high in zip(*np.searchsorted(moments, [begins, begins + length]), strict=True):
        if high - low >= least:
            yield slice(int(low), int(high))


def _windows(
    moments: NDArray[np.int64] | None, total: int, size: int, length: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """The indices of about `size` rows for each of some random windows; a window with far fewer is left out."""
    low, high = 0, total
    for _ in range(WINDOWS):
        if moments is not None:
            begin = rng.uniform(moments[0], max(moments[-1] - length, moments[0] + 1))
            low, high = np.searchsorted(moments, np.ceil([begin, begin + length]).astype(moments.dtype))
        # Slightly smaller is accepted: such a window varies more by chance, which raises the limit a little.
        if 0.7 * size <= high - low and size <= total // 2:
            yield low + rng.choice(high - low, min(size, high - low), replace=False, shuffle=False)


def _apart(
    places: NDArray[np.int64], first: NDArray[np.int64], windows: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """The index of each feature in windows compared with the other rows, (windows, features); `places` (n, features) are bins."""
    total = np.bincount(places.ravel())
    bins = np.array([np.bincount(places[rows].ravel(), minlength=len(total)) for rows in windows])
    sizes = np.array([[len(rows)] for rows in windows])
    return np.add.reduceat(_parts((total - bins) / (len(places) - sizes), bins / sizes), first, axis=1)


def _parts(was: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each bin adds to the index, from the shares of rows in it."""
    was, now = np.maximum(was, LEAST_SHARE), np.maximum(now, LEAST_SHARE)
    return (now - was) * np.log(now / was)


def _places(edges: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """The bin of each value: below the first edge, from each edge to the next, above the last, and missing."""
    found = np.searchsorted(edges.astype(np.float32), values, side="right")
    return np.where(np.isnan(values), len(edges) + 1, found)
