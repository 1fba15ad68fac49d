"""The data that the project trains on by default looks like customers."""

import numpy as np

from {{ cookiecutter.__package }} import problem


def test_no_row_is_dropped(dataset):
    assert dataset.dropped == {}


def test_about_a_quarter_leave(dataset):
    assert 0.2 < dataset.target.mean() < 0.33


def test_who_has_a_long_contract_stays(dataset):
    contract = dataset.columns["contract"]
    leaving = [dataset.target[contract == each].mean() for each in ("month-to-month", "one_year", "two_year")]
    assert leaving[0] > 2 * leaving[1] > 2 * leaving[2]


def test_charges_add_up(dataset):
    new = dataset.columns["tenure"] == 0
    assert np.all(dataset.columns["totalcharges"][new] == 0)
    usual = dataset.columns["totalcharges"][~new] / dataset.columns["tenure"][~new]
    assert abs(np.median(usual / dataset.columns["monthlycharges"][~new]) - 1) < 0.02


def test_every_row_that_is_trained_on_would_be_served_too(dataset):
    for i in range(0, len(dataset), 100):
        row = {name: values[i] for name, values in dataset.columns.items()}
        fields = {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
        problem.Record.model_validate(fields)
