"""The report on champion and challenger: right about unequal models, and seldom wrong about equal ones, whenever one looks."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.monitoring import ab_report
from {{ cookiecutter.__package }}.monitoring.ab_report import Arm

EXPERIMENTS, DAYS, A_DAY = 2_000, 60, 100


def claims(effect, experiments, seed=0):
    """The share of experiments in which somebody who looks every day ever sees a difference."""
    rng = np.random.default_rng(seed)
    claimed = 0
    for _ in range(experiments):
        losses = rng.lognormal(0, 1.5, DAYS * A_DAY)
        tried = rng.random(len(losses)) < 0.3
        found = ab_report.scores(losses * np.where(tried, 1 + effect, 1), tried, 0.3)
        seen = (range(1, DAYS + 1), np.cumsum(tried)[A_DAY - 1 :: A_DAY])
        looks = [day * A_DAY for day, known in zip(*seen, strict=True) if known >= ab_report.FIRST_LOOK]
        intervals = (ab_report.interval(found[1:look]) for look in looks)
        claimed += any(not each[1] <= 0 <= each[2] for each in intervals)
    return claimed / experiments


def test_equal_models_with_heavy_tailed_losses_are_told_apart_in_five_of_a_hundred_cases_at_most():
    assert claims(0, EXPERIMENTS) <= 0.05


def test_a_model_that_loses_a_third_more_is_found_out_mostly():
    assert claims(0.35, 100) > 0.7


def test_a_plain_interval_that_is_looked_at_daily_would_claim_far_too_often():
    rng, claimed = np.random.default_rng(1), 0
    for _ in range(200):
        losses, tried = rng.lognormal(0, 1.5, DAYS * A_DAY), rng.random(DAYS * A_DAY) < 0.3
        found = ab_report.scores(losses, tried, 0.3)
        looks = (found[: day * A_DAY] for day in range(2, DAYS + 1))
        claimed += any(abs(each.mean()) > 1.96 * each.std() / len(each) ** 0.5 for each in looks)
    assert claimed / 200 > 0.15


@pytest.mark.parametrize(
    ("champion", "challenger", "fair"), [(9_000, 1_000, True), (9_100, 900, False), (90, 10, True), (0, 0, True)]
)
def test_a_share_that_is_not_what_it_should_be_is_told(champion, challenger, fair):
    assert ab_report.even(champion, challenger, 0.1) is fair


def arm(version, losses, first=0):
    """Answers whose losses are these, in whatever the problem predicts."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    known = []
    for number, loss in enumerate(losses):
        at = (start + timedelta(minutes=first + 2 * number)).isoformat(timespec="milliseconds")
        truths = {"regression": (10.0, 10.0 + loss), "binary": (1.0, float(np.exp(-loss))), "multiclass": ("a", "a" if loss < 0.5 else "b")}  # fmt: skip
        known.append((at, f"prediction-{number}", *truths[problem.TASK]))
    return Arm(version, known[0][0], [1.0] * len(known), [each[3] for each in known], known)


@pytest.mark.parametrize(("theirs", "outcome"), [(0.2, "better"), (0.9, "worse"), (0.5, "undecided")])
def test_the_verdict_is_right_for_a_better_a_worse_and_an_equal_challenger(theirs, outcome):
    rng = np.random.default_rng(3)
    ours, losses = rng.random(2_000), rng.random(2_000) * 2 * theirs
    found = ab_report.difference(arm("1", ours), arm("2", losses, 1), 0.5)
    said, why = ab_report.verdict(found, 4_000)
    assert said == outcome
    assert ab_report.LOSS in why


def test_a_shadow_is_compared_record_by_record():
    rng = np.random.default_rng(4)
    ours = rng.lognormal(0, 2, 1_000) / 100 + 0.3
    found = ab_report.difference(arm("1", ours), arm("2", ours + (0.3 if problem.TASK != "multiclass" else 0.4)), 0)
    assert ab_report.verdict(found, 1_000)[0] == "worse"


def test_before_there_is_enough_truth_nothing_is_said():
    found = ab_report.difference(arm("1", [0.1] * 20), arm("2", [0.9] * 20), 0.5)
    assert ab_report.verdict(found, 40) == (
        "undecided",
        "40 truths are known; 200 of each version are the fewest that say something",
    )


def test_truths_of_one_version_alone_say_nothing():
    found = ab_report.difference(arm("1", np.linspace(0.1, 0.9, 3_000)), Arm("2", "", [], [], []), 0.1)
    assert ab_report.verdict(found, 3_000)[0] == "undecided"


def test_lost_answers_leave_the_verdict_open_whatever_the_losses_say():
    assert ab_report.verdict((-0.5, -0.6, -0.4), 3_000, fair=False)[0] == "undecided"


def test_a_key_counts_once_however_often_it_asks(monkeypatch):
    """Fifty answers to each of a hundred keys are a hundred that chance has drawn."""
    answer = dict.fromkeys(problem.Answer.model_fields, 1.0) | {problem.TARGET: 1.0}
    asked = [
        {"prediction_id": f"{key}-{turn}", "time": f"2026-01-01T00:{turn:02}", "model_version": "1", "role": "champion", "share": share}
        | {"milliseconds": 1.0, "record": {problem.ID: str(key)}, "answer": answer}
        for turn, share in [*((turn, 0.5) for turn in range(50)), (50, 0.1)]
        for key in range(100)
    ]  # fmt: skip
    monkeypatch.setattr(ab_report.logged, "rows", lambda **_: iter(asked))
    assert len(ab_report.collect("1", "champion", share=0.5).said) == 100
    assert ab_report.collect("1", "champion", share=0.3).said == []


def test_a_share_of_one_leaves_nothing_to_compare_with(monkeypatch):
    said = ab_report.live.Experiment("1", "2", 1.0, 0.0, "", "", "")
    monkeypatch.setattr(ab_report.live, "last_experiment", lambda *_: said)
    monkeypatch.setattr("sys.argv", ["make ab-report"])
    with pytest.raises(UserError, match="leaves no champion to compare with"):
        ab_report.main()


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_difference_that_is_no_number_decides_nothing(odd):
    assert ab_report.verdict((odd, odd, odd), 1_000)[0] == "undecided"


def test_the_picture_shows_the_difference_as_truths_came_in():
    found = np.random.default_rng(5).normal(1.0, 2.0, 1_000)
    picture = ab_report.drawn(found)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 5_000
