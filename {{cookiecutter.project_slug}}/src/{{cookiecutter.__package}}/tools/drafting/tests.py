"""The text of the tests for the problem itself; the user adds what follows from domain knowledge."""

from __future__ import annotations

from .text import Plan


def texts(plan: Plan, package: str) -> dict[str, str]:
    """Path in the project -> text of a test file."""
    classes = plan.classes
    known = sorted(set(plan.target.known))
    values = "list(problem.CLASSES)" if classes else f"[{float(known[0])!r}, {float(known[-1])!r}]"
    found = f"{[float(number) for number in range(len(classes))]!r}" if classes else values
    if classes:
        shares = [round(plan.target.values.count(each) / len(plan.target.known), 3) for each in classes]
        target = SHARES.format(shares=shares)
    else:
        target = RANGE.format(least=float(known[0]), most=float(known[-1]), unit=f" {plan.unit}".rstrip())
    name = plan.target.name
    return {
        "tests/code/test_problem.py": PROBLEM.format(package=package, values=values, found=found, name=name),
        "tests/data/test_sample.py": SAMPLE.format(package=package, target=target),
        "tests/model/test_behaviour.py": BEHAVIOUR.format(
            package=package, asked=ASKED[plan.task].format(answer=plan.answer, name=name)
        ),
    }


PROBLEM = '''"""The records, features and target that problem.py defines."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from records import WRONG

from {package} import problem
from {package}.data import schema
from {package}.problem import Record


def test_the_example_is_a_record_and_has_every_feature():
    record = Record.model_validate(problem.EXAMPLE, strict=False)
    assert problem.features(schema.columns([record])).shape == (1, len(problem.FEATURES))


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_value_that_breaks_a_rule_is_refused(field, value):
    with pytest.raises(ValidationError):
        Record.model_validate_json(json.dumps({{**problem.EXAMPLE, field: value}}))


def test_the_target_is_read_off_the_file():
    values = {values}
    assert problem.target({{"{name}": np.array(values)}}).tolist() == {found}
'''

SAMPLE = '''"""The data that the project trains on by default looks like the file that it was drafted from."""

import numpy as np

from {package} import problem


def test_the_same_seed_gives_the_same_rows():
    one, same, other = problem.sample(300, 1), problem.sample(300, 1), problem.sample(300, 2)
    assert all(str(one[name]) == str(same[name]) for name in problem.RAW)
    assert any(str(one[name]) != str(other[name]) for name in problem.RAW)


def test_few_rows_are_dropped(dataset):
    assert sum(dataset.dropped.values()) <= 0.05 * dataset.rows_read


{target}
'''

RANGE = """def test_the_target_is_within_its_observed_range(dataset):
    least, most = {least!r}, {most!r}  # {unit}the possible range; correct it if you know better
    assert least <= dataset.target.min()
    assert dataset.target.max() <= most
    assert np.ptp(dataset.target) > 0"""

SHARES = """def test_the_classes_have_their_observed_frequencies(dataset):
    shares = np.bincount(dataset.target.astype(int), minlength=len(problem.CLASSES)) / len(dataset)
    assert np.abs(shares - {shares}).max() < 0.05"""

BEHAVIOUR = '''"""Behaviour that any sensible model of this problem shows, whatever its metric (behavioural tests, after Ribeiro et al. 2020)."""

import pytest

from {package} import metrics, problem
from {package}.data import schema
from {package}.problem import Record

# Fill in fields of the record: a field, a value, and another value with which the answer must be higher.
DIRECTIONS: list[tuple[str, object, object]] = []
# And a field with two values for which the answer must be the same.
INVARIANCES: list[tuple[str, object, object]] = []


@pytest.fixture
def asked(predictor):
    def ask(**fields):
        record = Record.model_validate({{**problem.EXAMPLE, **fields}}, strict=False)
        {asked}

    return ask


def test_minimum_functionality_it_is_better_than_no_model(trained):
    found, name = trained.card["metrics"], problem.METRIC
    assert metrics.loss(name, found[name]) < metrics.loss(name, found[f"baseline_{{name}}"])


@pytest.mark.parametrize(("field", "lower", "higher"), DIRECTIONS)
def test_direction(asked, field, lower, higher):
    assert asked(**{{field: lower}}) < asked(**{{field: higher}})


@pytest.mark.parametrize(("field", "one", "other"), INVARIANCES)
def test_invariance(asked, field, one, other):
    assert asked(**{{field: one}}) == asked(**{{field: other}})


def test_the_same_record_gets_the_same_answer(asked):
    assert asked() == asked()
'''

ASKED = {
    "regression": 'return predictor.predict(schema.columns([record]))["{answer}"][0]',
    "binary": 'return predictor.predict(schema.columns([record]))["{name}_probability"][0]',
    "multiclass": 'return predictor.predict(schema.columns([record]))["probability"][0]',
}
