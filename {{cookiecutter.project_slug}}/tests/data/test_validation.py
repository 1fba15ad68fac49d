"""Data that is unfit to train on is refused with what was found and what is allowed."""

import numpy as np
import pytest

from {{ cookiecutter.__package }} import data, params, problem
from {{ cookiecutter.__package }} import validate as validation
from {{ cookiecutter.__package }}.cli import UserError


@pytest.fixture
def require(tmp_path):
    return lambda dataset, rules: validation.require(dataset, rules, tmp_path)


def test_the_sample_is_fit(require, dataset, tmp_path):
    assert "FAIL" not in require(dataset, params.Validation())
    assert "trip_distance" in (tmp_path / "data.md").read_text()


def test_too_few_rows(require, dataset, tmp_path):
    with pytest.raises(UserError, match="usable rows 100, allowed at least 500"):
        require(dataset.take(slice(100)), params.Validation())
    assert "FAIL" in (tmp_path / "data.md").read_text()


def test_too_many_dropped_rows(require):
    rides = problem.sample(1_000, 1)
    rides["trip_distance"][:300] = -1
    with pytest.raises(UserError, match="dropped rows 3"):
        require(data.clean("rides", rides), params.Validation())


def test_the_same_rows_again_and_again(require):
    rides = {name: np.tile(values, 2) for name, values in problem.sample(600, 1).items()}
    with pytest.raises(UserError, match=r"repeated rows 50\.0%"):
        require(data.clean("rides", rides), params.Validation())


def test_a_column_that_never_changes(require):
    rides = problem.sample(1_000, 1)
    rides["PULocationID"] = np.full(1_000, 7)
    with pytest.raises(UserError, match="one value only PULocationID"):
        require(data.clean("rides", rides), params.Validation())
