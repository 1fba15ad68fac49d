"""A limit on drift says how often it is crossed where nothing is wrong, and keeps that promise on rows it has not seen."""

import numpy as np
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import clean, drift
from {{ cookiecutter.__package }}.data.drift import Drift

ROWS = 20_000
RULES = Drift()


def rows(seed):
    """Features of a sample, oldest first, and their times in seconds or None."""
    dataset = clean.clean("sample", problem.sample(ROWS, seed))
    return drift.seen(problem.features(dataset.columns)), drift.times(dataset.columns)


def over(known, limits, seen, times, size=300):
    """For each window of some rows, whether it is over a limit; chunks of rows where there is no time."""
    total = len(next(iter(seen.values())))
    spans = list(drift.spans(times, total, limits["seconds"], RULES.min_rows))
    if times is None:
        spans = [slice(begin, begin + size) for begin in range(0, total - size, size)]
    found = []
    for each in spans:
        indices = drift.psi(known, drift.counts(known, {name: values[each] for name, values in seen.items()}))
        found.append(
            any(indices[name] > most for name, most in drift.limits_for(limits, each.stop - each.start).items())
        )
    return found


@pytest.fixture(scope="module")
def learned():
    seen, times = rows(1)
    known = drift.reference(seen)
    return known, drift.limits(known, seen, times, RULES, 0)


def test_windows_of_rows_that_nobody_has_seen_are_over_a_limit_as_seldom_as_is_said(learned):
    found = [each for seed in (2, 3, 4) for each in over(*learned, *rows(seed))]
    # Three standard deviations of a share above the one that was asked for.
    assert np.mean(found) <= RULES.false_alarms + 3 * (RULES.false_alarms / len(found)) ** 0.5
    assert np.any(found)


def test_a_feature_that_moves_is_seen_in_the_first_windows(learned):
    known, limits = learned
    seen, times = rows(2)
    name = max(limits["limits"], key=lambda each: len(known[each]["edges"]))
    moved = {**seen, name: seen[name] + np.float32(0.7 * np.nanstd(seen[name]))}
    assert drift.alarm(over(known, limits, moved, times)[: RULES.of], RULES)


def test_what_is_off_in_every_window_by_its_nature_is_left_out_and_named():
    days = np.repeat(np.arange(60), 300)
    seen = {
        "weekday": (days % 7).astype(np.float32),
        "size": np.random.default_rng(0).normal(size=len(days)).astype(np.float32),
    }
    known = drift.reference(seen)
    found = drift.limits(known, seen, days * 86_400 + np.arange(len(days)) % 300, RULES, 0)
    assert found["left_out"] == ["weekday"]
    assert list(found["limits"]) == ["size"]


def test_too_few_rows_have_no_limit(learned):
    assert drift.limits_for(learned[1], RULES.min_rows - 1) == {}
    assert drift.limits_for(learned[1], RULES.min_rows)


def test_more_rows_have_a_lower_limit(learned):
    few, many = (drift.limits_for(learned[1], size) for size in (100, 250))
    assert all(many[name] < few[name] for name in few)


def test_days_with_few_rows_are_put_together():
    times = np.arange(0, 400 * 86_400, 86_400 // 10)
    seen = {"size": np.random.default_rng(0).normal(size=len(times)).astype(np.float32)}
    found = drift.limits(drift.reference(seen), seen, times, RULES, 0)
    assert found["seconds"] > 10 * 86_400
    assert found["sizes"]


def test_the_index_is_that_of_its_definition():
    known = {"size": {"edges": [0.0, 1.0], "shares": [0.0, 0.5, 0.5, 0.0]}}
    found = drift.psi(known, {"size": np.array([0, 20, 80, 0])})
    assert found["size"] == pytest.approx((0.2 - 0.5) * np.log(0.2 / 0.5) + (0.8 - 0.5) * np.log(0.8 / 0.5))


def test_an_alarm_needs_two_of_the_last_three_windows():
    assert not drift.alarm([True, False, False, True], RULES)
    assert drift.alarm([True, False, True], RULES)
    assert not drift.alarm([True], RULES)
    assert drift.alarm([True], Drift(over=1, of=1))


def test_a_window_is_written_as_a_number_and_a_unit():
    assert (Drift(window="90s").seconds, Drift(window="2w").seconds) == (90, 1_209_600)
    for wrong in ("a day", "0d", "100000w"):
        with pytest.raises(ValueError, match="window"):
            Drift(window=wrong)
