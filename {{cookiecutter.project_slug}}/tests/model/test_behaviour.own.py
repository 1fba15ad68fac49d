"""Behaviour that any sensible model of this problem shows, whatever its metric (behavioural tests, after Ribeiro et al. 2020)."""

import pytest

from {{ cookiecutter.__package }} import metrics, problem
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.problem import Record

# In the record's words: a field, a value, and one with which the answer must be higher.
DIRECTIONS = [("size", 2.0, 20.0), ("kind", "small", "large")]
# And a field with two values for which the answer must be the same.
INVARIANCES = [("at", "2024-01-10T08:30:00", "2024-01-17T08:30:00")]


@pytest.fixture
def asked(predictor):
    def ask(**fields):
        record = Record.model_validate({**problem.EXAMPLE, **fields}, strict=False)
        return predictor.predict(schema.columns([record]))["value"][0]

    return ask


def test_minimum_functionality_it_is_better_than_no_model(trained):
    found, name = trained.card["metrics"], problem.METRIC
    assert metrics.loss(name, found[name]) < 0.6 * metrics.loss(name, found[f"baseline_{name}"])


@pytest.mark.parametrize(("field", "lower", "higher"), DIRECTIONS)
def test_direction(asked, field, lower, higher):
    assert asked(**{field: lower}) < asked(**{field: higher})


@pytest.mark.parametrize(("field", "one", "other"), INVARIANCES)
def test_invariance(asked, field, one, other):
    assert asked(**{field: one}) == asked(**{field: other})
