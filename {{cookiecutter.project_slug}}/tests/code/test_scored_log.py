"""The scored files of jobs are the log of predictions, here and in a store, each prediction with a name of its own."""

import re
import types
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema, storage
from {{ cookiecutter.__package }}.model import conformal
from {{ cookiecutter.__package }}.model.ab_split import Split, place
from {{ cookiecutter.__package }}.monitoring import logged
from {{ cookiecutter.__package }}.serving import job
from {{ cookiecutter.__package }}.serving.job import Batch
from {{ cookiecutter.__package }}.serving.job_run import JobRun
from {{ cookiecutter.__package }}.serving.scorer import Scorer
from {{ cookiecutter.__package }}.tools import predictions


@pytest.fixture
def scored(predictor, tracking_store, tmp_path):
    """A folder that a job has written: two files of ten rows."""
    raw = problem.sample(400, seed=5)
    (tmp_path / "new").mkdir()
    for name in ("a", "b"):
        pa.parquet.write_table(schema.table(raw).slice(0, 10), tmp_path / "new" / f"{name}.parquet")
    split, target = Split(predictor), tmp_path / "scored"
    units = job.plan(storage.find(str(tmp_path / "new"), "", ""), storage.place(str(target)))
    run = JobRun(split.card, str(tmp_path / "new"), str(target))
    job.Job(split, Batch(), run).run(units, force=False)
    run.end("FINISHED", rows=20)
    return target


def test_no_two_predictions_have_one_name(scored):
    rows = list(logged.rows(scored))
    assert len({row["prediction_id"] for row in rows}) == len(rows) > 10
    assert {row["role"] for row in rows} == {"champion"}
    assert all(re.fullmatch(r"[0-9a-f]{32}-[ab]-\d+", row["prediction_id"]) for row in rows), (
        "its job's run is its name"
    )


def test_a_prediction_is_shown_with_its_record_and_what_it_rests_on(scored, monkeypatch):
    monkeypatch.setenv("PREDICTION_LOG", str(scored))
    first = next(logged.rows(scored))
    shown = "\n".join(predictions.trace(first["prediction_id"]))
    assert f"time               {first['time']}" in shown
    assert f'"{problem.TARGET}": ' in shown


def test_an_address_will_do_as_well_as_a_folder(scored, monkeypatch):
    here = [row["prediction_id"] for row in logged.rows(scored)]
    monkeypatch.setenv("PREDICTION_LOG", f"file://{scored}")
    assert [row["prediction_id"] for row in logged.rows()] == here


def test_the_table_has_the_interval_of_those_answers_that_had_one(scored, monkeypatch):
    monkeypatch.setenv("PREDICTION_LOG", str(scored))
    monkeypatch.setattr("sys.argv", ["make predictions", "--output", str(scored.parent / "log.parquet")])
    predictions.main()
    assert not set(conformal.FIELDS) & set(pa.parquet.read_schema(scored.parent / "log.parquet").names)
    table = pa.parquet.read_table(scored / "b.parquet")
    ends = {name: 1.5 if "number" in each["type"] else "one" for name, each in conformal.FIELDS.items()}
    for name, end in ends.items():
        table = table.append_column(name, pa.array([end] * len(table)))
    pa.parquet.write_table(table, scored / "b.parquet")
    predictions.main()
    both = pa.parquet.read_table(scored.parent / "log.parquet")
    assert all(both[name].to_pylist().count(end) == len(table) < len(both) for name, end in ends.items())


def test_what_was_refused_is_no_prediction(scored):
    pa.parquet.write_table(pa.table({"reason": ["bad"]}), scored / "a.parquet.rejected.parquet")
    assert not any("rejected" in row["prediction_id"] for row in logged.rows(scored))


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert list(logged.rows(tmp_path / "nothing")) == []


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.float64()])
def test_an_id_of_a_file_is_drawn_as_it_is_in_a_request(predictor, kind):
    roles = drawn(predictor, pa.array(range(100)).cast(kind))
    assert roles == ["challenger" if place("experiment", str(number)) < 0.4 else "champion" for number in range(100)]


@pytest.mark.parametrize("nothing", [None, float("nan"), "", " "])
def test_rows_without_an_id_are_drawn_by_what_they_are(predictor, nothing):
    assert drawn(predictor, pa.array([nothing] * 100)) == drawn(predictor, None)


def drawn(predictor, ids):
    """Who answers a hundred records that are the same but for their ids."""
    raw = problem.sample(400, seed=5)
    raw.pop(problem.ID, None)
    rows = schema.table(raw).take([0] * 100)
    rows = rows if ids is None else rows.append_column(problem.ID, ids)
    batch = rows.combine_chunks().to_batches()[0]
    scorer = Scorer(Split(predictor, predictor, 0.4, "experiment"), batch.schema, datetime.now(UTC))
    return scorer(batch, pa.array(range(100))).accepted["role"].to_pylist()


def test_a_file_that_cannot_be_read_is_told_and_hides_no_other(scored, capsys):
    whole = len(list(logged.rows(scored)))
    for name in ("aa.parquet", "aa.parquet.rejected.parquet"):
        (scored / name).write_text("hello")
    assert len(list(logged.rows(scored))) == whole
    assert list(logged.refused(scored)) == []
    said = capsys.readouterr().err
    assert "aa.parquet is left out" in said
    assert "aa.parquet.rejected.parquet is left out" in said


def test_predictions_of_a_job_that_was_not_logged_have_names_of_their_own(predictor, scored):
    split, log, names = Split(predictor), types.SimpleNamespace(run_id="", file=lambda *_: None), []
    for _ in range(2):
        units = job.plan(storage.find(str(scored.parent / "new"), "", ""), storage.place(str(scored)))
        job.Job(split, Batch(), log).run(units, force=True)
        names += [row["prediction_id"] for row in logged.rows(scored)]
    assert len(set(names)) == len(names) > 10


def test_a_file_says_with_which_share_its_rows_were_drawn(scored):
    assert {row["share"] for row in logged.rows(scored)} == {0.0}
