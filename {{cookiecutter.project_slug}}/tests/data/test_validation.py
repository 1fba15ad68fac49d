"""Data that is unfit to train on is refused with what was found and what is allowed."""

import dataclasses

import numpy as np
import pytest
from records import BOUNDED, broken

from {{ cookiecutter.__package }} import data, params, problem, schema
from {{ cookiecutter.__package }} import validate as validation
from {{ cookiecutter.__package }}.cli import UserError


@pytest.fixture
def require(tmp_path):
    return lambda dataset, rules: validation.require(dataset, rules, tmp_path)


def test_the_sample_is_fit(require, dataset, tmp_path):
    assert "FAIL" not in require(dataset, params.Validation())
    assert schema.FIELDS[0].name in (tmp_path / "data.md").read_text()


def test_too_few_rows(require, dataset, tmp_path):
    with pytest.raises(UserError, match="usable rows 100, allowed at least 500"):
        require(dataset.take(slice(100)), params.Validation())
    assert "FAIL" in (tmp_path / "data.md").read_text()


def test_too_many_dropped_rows(require):
    raw = dict(problem.prepare(problem.sample(1_000, 1)))
    raw[BOUNDED.name][:300] = broken(BOUNDED)
    with pytest.raises(UserError, match="dropped rows 3"):
        require(data.clean("raw", raw), params.Validation())


def test_the_same_rows_again_and_again(require):
    raw = {name: np.tile(values, 2) for name, values in problem.sample(600, 1).items()}
    with pytest.raises(UserError, match="repeated rows 5"):
        require(data.clean("raw", raw), params.Validation())


def test_a_column_that_never_changes(require, dataset):
    name = schema.FIELDS[0].name
    columns = {**dataset.columns, name: np.full(len(dataset), dataset.columns[name][0], dataset.columns[name].dtype)}
    with pytest.raises(UserError, match=f"one value only {name}"):
        require(dataclasses.replace(dataset, columns=columns), params.Validation())


def test_a_feature_that_tells_the_target_by_itself(require, dataset):
    if problem.TASK == "multiclass":
        pytest.skip("one feature does not order several classes")
    matrix = problem.features(dataset.columns)
    number = next(i for i in range(matrix.shape[1]) if len(np.unique(matrix[:, i])) > 10)
    told = matrix[:, number].astype(float)
    target = told if problem.TASK == "regression" else (told > np.median(told)).astype(float)
    with pytest.raises(UserError, match=f"tell the target {problem.FEATURES[number]}"):
        require(dataclasses.replace(dataset, target=target), params.Validation())


@pytest.mark.skipif(problem.TASK == "regression", reason="a number has no classes")
def test_a_class_that_hardly_anybody_is_in(require, dataset):
    few = dataclasses.replace(dataset, target=(np.arange(len(dataset)) == 0).astype(float))
    with pytest.raises(UserError, match="smallest class"):
        require(few, params.Validation())
