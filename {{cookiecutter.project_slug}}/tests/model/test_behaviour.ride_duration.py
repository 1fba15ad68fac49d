"""What any sensible model of ride durations does, whatever its metric (behavioural tests, after Ribeiro et al. 2020)."""

import numpy as np
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.problem import Record


@pytest.fixture
def minutes(predictor):
    def ask(*records):
        made = [Record.model_validate({**problem.EXAMPLE, **record}, strict=False) for record in records]
        return predictor.predict(schema.columns(made))["duration"]

    return ask


def test_minimum_functionality_it_beats_the_mean_by_half(trained):
    assert trained.card["metrics"]["rmse"] < 0.6 * trained.card["metrics"]["baseline_rmse"]


def test_direction_a_longer_ride_takes_longer(minutes):
    assert np.all(np.diff(minutes(*({"trip_distance": miles} for miles in (0.5, 2, 5, 12)))) > 0)


def test_direction_the_rush_hour_is_slower_than_the_night(minutes):
    rush, night = minutes(
        {"trip_distance": 6, "lpep_pickup_datetime": "2024-01-10T17:30:00"},
        {"trip_distance": 6, "lpep_pickup_datetime": "2024-01-10T04:30:00"},
    )
    assert rush > night


def test_invariance_the_same_hour_a_week_later_is_the_same(minutes):
    one, other = minutes(
        {"lpep_pickup_datetime": "2024-01-10T08:30:00"}, {"lpep_pickup_datetime": "2024-01-17T08:30:00"}
    )
    assert one == other


def test_one_record_or_many_get_the_same_answer(predictor, dataset):
    few = dataset.take(slice(50))
    together = predictor.predict(few.columns)["duration"]
    singly = [predictor.predict(few.take(slice(i, i + 1)).columns)["duration"][0] for i in range(50)]
    assert together.tolist() == singly


def test_no_record_is_no_answer(predictor, dataset):
    answers = predictor.predict(dataset.take(slice(0)).columns)
    assert {name: len(values) for name, values in answers.items()} == {"duration": 0, "model_version": 0}
