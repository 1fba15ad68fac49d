"""The scored files of jobs are the log of predictions, here and in a store, each prediction with a name of its own."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.model.ab_split import Split
from {{ cookiecutter.__package }}.monitoring import logged
from {{ cookiecutter.__package }}.serving import job, storage
from {{ cookiecutter.__package }}.serving.job import Batch
from {{ cookiecutter.__package }}.serving.job_run import JobRun


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


def test_an_address_will_do_as_well_as_a_folder(scored, monkeypatch):
    here = [row["prediction_id"] for row in logged.rows(scored)]
    monkeypatch.setenv("PREDICTION_LOG", f"file://{scored}")
    assert [row["prediction_id"] for row in logged.rows()] == here


def test_what_was_refused_is_no_prediction(scored):
    pa.parquet.write_table(pa.table({"reason": ["bad"]}), scored / "a.parquet.rejected.parquet")
    assert not any("rejected" in row["prediction_id"] for row in logged.rows(scored))


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert list(logged.rows(tmp_path / "nothing")) == []
