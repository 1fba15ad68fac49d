"""The data that the project trains on by default is what its problem says."""

import numpy as np

from {{ cookiecutter.__package }} import problem


def test_the_same_seed_gives_the_same_rows():
    one, same, other = problem.sample(300, 1), problem.sample(300, 1), problem.sample(300, 2)
    assert all(str(one[name]) == str(same[name]) for name in problem.RAW)
    assert any(str(one[name]) != str(other[name]) for name in problem.RAW)


def test_few_rows_are_dropped(dataset):
    assert sum(dataset.dropped.values()) <= 0.05 * dataset.rows_read


def test_larger_sizes_have_larger_values(dataset):
    assert np.corrcoef(dataset.columns["size"], dataset.target)[0, 1] > 0.6
