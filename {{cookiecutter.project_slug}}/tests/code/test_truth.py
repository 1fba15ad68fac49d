"""The ground truth is joined with the predictions when it comes late, out of order or more than once."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.model.predictor import PREDICTION
from {{ cookiecutter.__package }}.monitoring import logged, quality, truth

TRUTHS = {"regression": [10.0, 20.0, 30.0], "binary": [1.0, 0.0, 1.0], "multiclass": ["a", "b", "c"]}[problem.TASK]


@pytest.fixture(autouse=True)
def predicted(tmp_path, monkeypatch):
    """Forty predictions of two versions on two days."""
    scores = np.eye(3, dtype=np.float32)[:1] if problem.TASK == "multiclass" else np.array([0.25], np.float32)
    said = {name: values.tolist()[0] for name, values in problem.answer(scores).items()}
    rows = [
        {
            "prediction_id": f"p{at}",
            "time": f"2026-01-0{1 + at % 2}T10:00:00.000+00:00",
            "model_version": str(1 + at % 4 // 2),
            "role": "champion",
            "milliseconds": 1.0,
            "record": {problem.ID: f"key-{at}"},
            "answer": said,
        }
        for at in range(40)
    ]
    monkeypatch.setattr(truth, "TRUTH", tmp_path / "truth")
    monkeypatch.setattr(logged, "rows", lambda **_: iter(rows))
    return rows


def given(folder, keys, truths, name="truth.csv", key=PREDICTION):
    path = folder / name
    pd.DataFrame({key: keys, problem.TARGET: truths}).to_csv(path, index=False)
    return path


def found(rows):
    truths = truth.known()
    return [truth.of(row, truths) for row in rows]


def test_truth_finds_its_prediction_by_the_prediction_s_id(tmp_path, predicted):
    assert truth.add(given(tmp_path, ["p2", "p0", "p1"], TRUTHS)) == (3, 0)
    assert found(predicted[:4]) == [TRUTHS[1], TRUTHS[2], TRUTHS[0], None]


def test_truth_finds_its_prediction_by_the_record_s_id(tmp_path, predicted):
    truth.add(given(tmp_path, ["key-1", "key-0"], TRUTHS[:2], key=problem.ID))
    assert found(predicted[:3]) == [TRUTHS[1], TRUTHS[0], None]


@pytest.mark.parametrize(
    ("names", "ids"),
    [([PREDICTION, PREDICTION], [["p0"], ["p0"]]), ([problem.ID], [pa.array([10_000_000], pa.date32())])],
    ids=["an id that is there twice", "a day that Python does not know"],
)
def test_truth_that_cannot_be_read_is_named_in_a_line(tmp_path, names, ids):
    path = tmp_path / "truth.parquet"
    pa.parquet.write_table(
        pa.Table.from_arrays([*map(pa.array, ids), pa.array(TRUTHS[:1])], [*names, problem.TARGET]), path
    )
    with pytest.raises(UserError, match=r"truth\.parquet cannot be read"):
        truth.add(path)


def test_the_same_file_twice_doubles_nothing_and_a_later_word_counts(tmp_path, predicted):
    for _ in range(2):
        truth.add(given(tmp_path, ["p0"], TRUTHS[:1]))
    assert len(list((tmp_path / "truth").iterdir())) == 1
    truth.add(given(tmp_path, ["p0"], TRUTHS[1:2], "later.csv"))
    assert found(predicted[:1]) == [TRUTHS[1]]


def test_truth_that_contradicts_what_was_given_before_is_told(tmp_path, predicted, capsys, monkeypatch):
    told = []
    for number, truths in enumerate((TRUTHS, [TRUTHS[0], TRUTHS[2], TRUTHS[2]])):
        path = given(tmp_path, ["p0", "p1", "p2"], truths, f"{number}.csv")
        monkeypatch.setattr("sys.argv", ["truth", "--data", str(path)])
        truth.main()
        told.append(capsys.readouterr().err[:18])
    assert told == ["", "warning: 1 truths "]
    assert found(predicted[1:2]) == [TRUTHS[2]]


@pytest.mark.skipif(problem.TASK == "multiclass", reason="classes are no numbers")
def test_truth_that_is_no_number_or_that_training_would_refuse_counts_as_missing(tmp_path, predicted, monkeypatch):
    monkeypatch.setattr(problem, "TARGET_RULES", {"over 1000": lambda target: target > 1000})
    assert truth.add(given(tmp_path, ["p0", "p1", "p2"], ["inf", 1e9, TRUTHS[2]])) == (3, 2)
    assert found(predicted[:3]) == [None, None, TRUTHS[2]]


def test_keys_that_are_whole_numbers_are_found_where_one_is_missing(tmp_path):
    path = tmp_path / "truth.parquet"
    pd.DataFrame({problem.ID: [1, None, 3], problem.TARGET: TRUTHS}).to_parquet(path)
    truth.add(path)
    assert {key for _, key in truth.known()} == {"1", "3"}


def test_a_damaged_file_of_truth_is_told_and_left_out(tmp_path, predicted, capsys):
    truth.add(given(tmp_path, ["p0"], TRUTHS[:1]))
    (truth.TRUTH / "cut.parquet").write_bytes(b"PAR1")
    assert found(predicted[:1]) == TRUTHS[:1]
    assert "cut.parquet is left out" in capsys.readouterr().err


def test_a_missing_truth_is_counted_and_waits(tmp_path, predicted):
    assert truth.add(given(tmp_path, ["p0", "p1"], [TRUTHS[0], None])) == (2, 1)
    assert found(predicted[:2]) == [TRUTHS[0], None]


def test_a_file_without_a_key_or_a_target_is_refused(tmp_path):
    with pytest.raises(UserError, match="add one of them"):
        truth.add(given(tmp_path, ["p0"], TRUTHS[:1], key="number"))
    pd.DataFrame({PREDICTION: ["p0"]}).to_csv(tmp_path / "bare.csv", index=False)
    with pytest.raises(UserError, match="has no column"):
        truth.add(tmp_path / "bare.csv")


def test_quality_is_told_by_version_and_day_with_what_is_still_to_come(tmp_path, capsys, monkeypatch):
    keys = [f"p{at}" for at in range(0, 40, 4)]
    truth.add(given(tmp_path, keys, [TRUTHS[at % 2] for at in range(10)]))
    rows = list(quality.rows())
    assert [row[:3] for row in rows] == [
        ("1", "champion", "2026-01-01"),
        ("1", "champion", "2026-01-02"),
        ("1", "champion", "all"),
        ("2", "champion", "2026-01-01"),
        ("2", "champion", "2026-01-02"),
        ("2", "champion", "all"),
    ]
    assert [(row[3], row[4]) for row in rows] == [(10, 10), (10, 0), (20, 10), (10, 0), (10, 0), (20, 0)]
    assert rows[1][-2] == "no truth yet"
    monkeypatch.setattr("sys.argv", ["quality"])
    quality.main()
    assert "30 of 40 predictions wait for their truth" in capsys.readouterr().out


def test_quality_tells_how_often_the_truth_was_inside_what_answers_said(tmp_path, predicted, capsys, monkeypatch):
    came = TRUTHS[0]
    name = came if problem.TASK == "multiclass" else "true"
    right, wrong = (
        ({"low": 9.0, "high": 11.0}, {"low": 0.0, "high": 1.0})
        if problem.TASK == "regression"
        else ({"prediction_set": f"z,{name}"}, {"prediction_set": "z"})
    )
    for row, said in zip(predicted, [right, right, wrong, right], strict=False):
        row["answer"] = row["answer"] | said
    truth.add(given(tmp_path, ["p0", "p1", "p2", "p3"], [came] * 4))
    assert [row[-1] for row in quality.rows() if row[2] == "all"] == ["100.0%", "50.0%"]
    monkeypatch.setattr("sys.argv", ["quality"])
    quality.main()
    assert "| 50.0% |" in capsys.readouterr().out


def test_the_metric_in_use_is_the_metric_of_training(tmp_path):
    if problem.TASK == "multiclass":
        pytest.skip("classes are counted, as a log has no probabilities of all of them")
    name, value, low, high = quality.measured([1.0, 0.0, 1.0, 0.0] * 20, [0.9, 0.2, 0.6, 0.4] * 20)
    assert name == problem.METRIC
    assert low <= value <= high


def test_what_an_answer_says_is_its_probability_or_the_target():
    if problem.TASK == "binary":
        answers = problem.answer(np.array([0.25], np.float32))
        assert truth.Said()({name: values.tolist()[0] for name, values in answers.items()}) == pytest.approx(0.25)
    else:
        assert json.dumps(truth.Said()({problem.TARGET: 3})) in ("3.0", '"3"')
