"""Data that is unfit to train on is refused with what was found and what is allowed."""

import dataclasses

import numpy as np
import pytest
from records import BOUNDED, broken, needs_a_rule

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import clean, schema
from {{ cookiecutter.__package }}.pipeline import validate
from {{ cookiecutter.__package }}.pipeline.validate import Validation


@pytest.fixture
def require(tmp_path):
    def judge(dataset, rules, raw=None, **options):
        raw = dict(dataset.columns) if raw is None else raw
        return validate.require(dataset, raw, rules, folder=tmp_path, **options)

    return judge


def test_the_sample_is_fit(require, dataset, tmp_path):
    assert "FAIL" not in require(dataset, Validation())
    assert schema.FIELDS[0].name in (tmp_path / "data.md").read_text()


def test_a_column_without_any_value_is_told(require, dataset, monkeypatch):
    name = schema.FIELDS[0].name
    values = dataset.columns[name]
    kind = values.dtype if values.dtype.kind in "OM" else float
    nothing = np.full(len(values), np.nan if kind is float else None, kind)
    with pytest.raises(UserError, match=f"columns with one value only {name}"):
        require(dataclasses.replace(dataset, columns={**dataset.columns, name: nothing}), Validation())


def test_too_few_rows(require, dataset, tmp_path):
    with pytest.raises(UserError, match="usable rows 100, allowed at least 500"):
        require(dataset.take(slice(100)), Validation())
    assert "FAIL" in (tmp_path / "data.md").read_text()


@needs_a_rule
def test_too_many_dropped_rows(require):
    raw = dict(problem.prepare(problem.sample(1_000, 1)))
    raw[BOUNDED.name][:300] = broken(BOUNDED)
    with pytest.raises(UserError, match="dropped rows 3"):
        require(clean.clean("raw", raw), Validation(), raw)


@needs_a_rule
def test_the_report_tells_types_gaps_and_words_that_nobody_knows(require, dataset, tmp_path):
    raw = dict(problem.prepare(problem.sample(1_000, 1)))
    field = BOUNDED
    raw[field.name] = raw[field.name].astype(object if field.choices else float)
    raw[field.name][:100] = None if field.choices else np.nan
    raw[field.name][100] = broken(field)
    report = require(clean.clean("raw", raw), Validation(), raw)
    (line,) = [line for line in report.splitlines() if line.startswith(f"| {field.name} | ") and "%" in line]
    assert line.split(" | ")[1:3] == ["text" if field.choices else "number", "10.0%"]
    assert ("nothing" in line) == bool(field.choices)
    page = (tmp_path / "data.html").read_text()
    assert page.startswith("<!doctype html>")
    assert f"<td>{field.name}</td>" in page


def test_data_that_have_drifted_fail_by_hand_and_are_told_in_a_pipeline(require, dataset, trained):
    known = trained.card
    assert "over a limit | pass" in require(dataset, Validation(), known=known, drift_counts=True)
    name = next(iter(known["drift"]["limits"]))
    edges = np.array(known["distribution"][name]["edges"])
    elsewhere = {**known["distribution"][name], "edges": (edges - 10 * np.ptp(edges) - 1).tolist()}
    moved = {**known, "distribution": {**known["distribution"], name: elsewhere}}
    (line,) = [line for line in require(dataset, Validation(), known=moved).splitlines() if f"| {name} | " in line and " of " in line]  # fmt: skip
    windows = line.rsplit(" | ", 1)[1].rstrip(" |").split(" of ")
    assert windows[0] == windows[1]
    with pytest.raises(UserError, match=f"drift from the served model's data {name} in "):
        require(dataset, Validation(), known=moved, drift_counts=True)


def test_what_a_model_was_trained_on_is_what_the_served_one_tells(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_URI", str(trained.folder))
    assert validate.served()["distribution"] == trained.card["distribution"]
    monkeypatch.setenv("MODEL_URI", str(tmp_path / "nothing"))
    assert validate.served() == {}


def test_the_same_rows_again_and_again(require):
    raw = {name: np.tile(values, 2) for name, values in problem.sample(600, 1).items()}
    with pytest.raises(UserError, match="repeated rows 5"):
        require(clean.clean("raw", raw), Validation())


def test_a_column_that_never_changes(require, dataset):
    name = schema.FIELDS[0].name
    columns = {**dataset.columns, name: np.full(len(dataset), dataset.columns[name][0], dataset.columns[name].dtype)}
    with pytest.raises(UserError, match=f"one value only {name}"):
        require(dataclasses.replace(dataset, columns=columns), Validation())


def test_a_feature_that_tells_the_target_by_itself(require, dataset):
    if problem.TASK == "multiclass":
        pytest.skip("one feature does not order several classes")
    matrix = problem.features(dataset.columns)
    number = next(i for i in range(matrix.shape[1]) if len(np.unique(matrix[:, i])) > 10)
    told = matrix[:, number].astype(float)
    target = told if problem.TASK == "regression" else (told > np.median(told)).astype(float)
    with pytest.raises(UserError, match=f"predict the target {problem.FEATURES[number]}"):
        require(dataclasses.replace(dataset, target=target), Validation())


@pytest.mark.skipif(problem.TASK == "regression", reason="a number has no classes")
def test_a_class_that_hardly_anybody_is_in(require, dataset):
    few = dataclasses.replace(dataset, target=(np.arange(len(dataset)) == 0).astype(float))
    with pytest.raises(UserError, match="smallest class"):
        require(few, Validation())
