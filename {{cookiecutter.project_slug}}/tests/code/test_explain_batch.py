"""Explanations of scored rows: a column for each feature, on request."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema, storage
from {{ cookiecutter.__package }}.data.schema import table
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.serving import job, served_model
from {{ cookiecutter.__package }}.serving.job import Batch
from {{ cookiecutter.__package }}.serving.job_run import JobRun
from {{ cookiecutter.__package }}.serving.scorer import RECORD


def test_on_request_each_row_tells_what_each_feature_adds(trained, tmp_path):
    file = tmp_path / "new.parquet"
    pa.parquet.write_table(table(problem.sample(500, seed=2)), file)
    model = served_model.build(bundle.read(trained.folder))
    (unit,) = job.plan(storage.find(str(file)), storage.place(str(tmp_path / "scored.parquet")))
    log = JobRun(model.card, str(file), unit.target.path)
    for additions in ((), ("explain",)):
        # A file without the parts is not up to date where they are asked for.
        counts = job.Job(model, Batch(max_rejected_share=1), log, additions=additions).run([unit])
        assert counts.files == 1
    log.end("FINISHED", rows=500)
    rows = pa.parquet.read_table(tmp_path / "scored.parquet").to_pylist()
    fields = problem.Record.model_fields
    kept = [RECORD.validate_python({name: row[name] for name in fields}, strict=False) for row in rows[:20]]
    parts = model.additions["explain"].columns(schema.columns(kept))
    assert list(parts) == ["base_value", *(f"contribution_{name}" for name in problem.FEATURES)]
    for name, values in parts.items():
        assert [row[name] for row in rows[:20]] == pytest.approx(values.tolist(), abs=1e-9)
