"""The data that the project trains on by default looks like rides."""

import numpy as np

from {{ cookiecutter.__package }} import problem


def test_few_rows_are_dropped_but_some_are(dataset):
    dropped = sum(dataset.dropped.values()) / dataset.rows_read
    assert 0 < dropped < 0.03


def test_durations_and_distances_are_those_of_city_rides(dataset):
    assert 8 < np.median(dataset.target) < 16
    assert 1 < np.median(dataset.columns["trip_distance"]) < 4


def test_longer_rides_take_longer(dataset):
    assert np.corrcoef(dataset.columns["trip_distance"], dataset.target)[0, 1] > 0.6


def test_every_row_that_is_trained_on_would_be_served_too(dataset):
    for i in range(0, len(dataset), 100):
        fields = {name: values[i].item() for name, values in dataset.columns.items()}
        problem.Record.model_validate(fields)
