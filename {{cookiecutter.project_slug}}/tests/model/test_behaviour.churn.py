"""What any sensible model of churn does, whatever its metric (behavioural tests, after Ribeiro et al. 2020)."""

import numpy as np
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.problem import Record

FIBRE = {
    "internetservice": "fiber_optic", "phoneservice": "yes", "multiplelines": "no", "onlinebackup": "no",
    "monthlycharges": 85.0, "tenure": 2, "totalcharges": 170.0,
}  # fmt: skip


@pytest.fixture
def probability(predictor):
    def ask(*records):
        made = [Record.model_validate({**problem.EXAMPLE, **record}, strict=False) for record in records]
        return predictor.predict(schema.columns(made))["churn_probability"]

    return ask


def test_minimum_functionality_it_ranks_customers(trained):
    assert trained.card["metrics"]["roc_auc"] > 0.75


def test_minimum_functionality_a_new_customer_with_fibre_is_likely_to_leave(probability):
    leaving, staying = probability(FIBRE, {"contract": "two_year", "tenure": 70, "totalcharges": 2_090.0})
    assert leaving > 0.5
    assert staying < 0.2


def test_direction_a_longer_contract_keeps_people(probability):
    months, years = probability({**FIBRE, "contract": "month-to-month"}, {**FIBRE, "contract": "two_year"})
    assert months > years


def test_direction_who_has_been_here_long_stays(probability):
    new, old = probability(FIBRE, {**FIBRE, "tenure": 60, "totalcharges": 5_100.0})
    assert new > old


def test_invariance_gender_hardly_matters(probability):
    women, men = probability({**FIBRE, "gender": "female"}, {**FIBRE, "gender": "male"})
    assert women == pytest.approx(men, abs=0.1)


def test_probabilities_are_calibrated(predictor, dataset):
    said = predictor.predict(dataset.columns)["churn_probability"]
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6)):
        part = (said >= low) & (said < high)
        if part.sum() > 200:
            assert np.mean(dataset.target[part]) == pytest.approx(np.mean(said[part]), abs=0.12)
