"""The records, features and target that problem.py defines."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from records import WRONG

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.problem import Record


def test_the_example_is_a_record_and_has_every_feature():
    record = Record.model_validate(problem.EXAMPLE, strict=False)
    (row,) = problem.features(schema.columns([record]))
    assert dict(zip(problem.FEATURES, row.tolist(), strict=True)) == {
        "size": 12.5,
        "kind": 1,
        "at_hour": 8.5,
        "at_weekday": 2,
        "at_month": 1,
    }


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_value_that_breaks_a_rule_is_refused(field, value):
    with pytest.raises(ValidationError):
        Record.model_validate_json(json.dumps({**problem.EXAMPLE, field: value}))


def test_the_target_is_read_off_the_file():
    assert problem.target({"value": np.array([1.5, 2.0])}).tolist() == [1.5, 2.0]


def test_drift_makes_size_count_for_more():
    usual, drifted = (problem.sample(4_000, 1, drift=drift) for drift in (False, True))
    slope = [np.polyfit(rows["size"], problem.target(rows), 1)[0] for rows in (usual, drifted)]
    assert slope[1] > 1.3 * slope[0]
