"""The report of a scoring job: how many rows, why some were refused, how the predictions differ from those of training."""

import html
import re
import sys

import pyarrow as pa
import pyarrow.parquet
import pytest
from records import BOUNDED, broken, needs_a_rule

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.serving import job_report

pytestmark = needs_a_rule


@pytest.fixture
def told(trained, tmp_path, monkeypatch):
    """Score 500 rows of which some are bad, with a report; gives what a person reads in a browser, and the exit code."""

    def run(*words, bad=3, alike=False):
        rows = schema.table(problem.prepare(problem.sample(500, seed=3)))
        columns = (rows.take([0] * 500) if alike else rows).to_pydict()
        columns[BOUNDED.name][:bad] = [broken(BOUNDED)] * bad
        pa.parquet.write_table(pa.table(columns), tmp_path / "new.parquet")
        page = tmp_path / "reports" / "job.html"
        monkeypatch.setenv("MODEL_URI", str(trained.folder))
        files = {"input": tmp_path / "new.parquet", "output": tmp_path / "scored.parquet", "report": page}
        monkeypatch.setattr("sys.argv", ["make score", *(f"--{name}={path}" for name, path in files.items()), *words])
        code = job_report.main()
        text = re.sub(r"src=\"data:[^\"]*\"", "picture", page.read_text(encoding="utf-8"))
        return " ".join(html.unescape(re.sub(r"<(?!img)[^>]+>", " ", text)).split()), code

    return run


def test_a_page_tells_what_the_job_did_and_with_which_model(told, trained):
    text, code = told()
    card = bundle.read(trained.folder).card
    assert code == 0
    for words in ("rows read 500", "scored 497", "rejected 3 (0.60%)", card["graph_sha256"], f"run {trained.run_id}"):
        assert words in text
    assert re.search(r"time [\d.]+ s, [\d,]+ rows/s", text)
    assert "picture" in text[text.index("Pictures") :]


def test_rejected_rows_are_counted_by_reason_with_examples(told):
    text, _ = told(bad=5)
    refused = text[text.index("Rejected rows", text.index("rows read")) :]
    examples = r"row 1 of new.parquet \([^)]+\); row 2 [^;]+; row 3 [^;]+ Predictions"
    assert re.search(rf" {BOUNDED.name} [^;]+ 5 {examples}", refused)
    assert repr(broken(BOUNDED))[:20] in refused


def test_no_value_of_a_private_field_is_on_the_page(told, monkeypatch):
    monkeypatch.setattr(problem, "PRIVATE", (BOUNDED.name,), raising=False)
    text, _ = told()
    assert f"{BOUNDED.name} its value breaks a rule 3 row 1 of new.parquet; row 2" in text
    assert f"({broken(BOUNDED)!r})" not in text


def test_predictions_unlike_those_of_training_are_told(told):
    def index(text):
        return float(re.search(r"stability index is ([\d.]+)", text)[1])

    assert index(told()[0]) < 0.25 < index(told("--force", alike=True)[0])


def test_a_model_of_a_lower_level_has_its_page_too(told, model_copy, trained, monkeypatch):
    known = bundle.read(model_copy)
    card = {name: each for name, each in known.card.items() if name != "distribution"}
    bundle.write(bundle.Bundle(known.graph, card, known.extras), model_copy)
    monkeypatch.setattr(trained, "folder", model_copy)
    text, code = told()
    assert "scored 497" in text
    assert (code, "picture" in text) == (0, False)


def test_a_job_with_too_many_rejected_rows_has_its_page_and_its_exit_code(told):
    text, code = told(bad=100)
    assert code == 3
    assert "100 of 500 rows were refused" in text


def test_without_a_page_it_needs_no_more_than_a_job_without_one(told, tmp_path, monkeypatch):
    for name in ("matplotlib", "markdown_it"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="REPORT needs the packages of training"):
        told()
    monkeypatch.setattr("sys.argv", sys.argv[:-1])
    assert job_report.main() == 0
    assert len(pa.parquet.read_table(tmp_path / "scored.parquet")) == 497


@pytest.mark.parametrize("words", [["--engine=spark"], ["--report=job.pdf"], ["--report=s3://bucket/job.html"]])
def test_what_cannot_be_written_is_told_before_a_row_is_scored(told, tmp_path, words):
    with pytest.raises(UserError, match=r"REPORT"):
        told(*words)
    assert not (tmp_path / "scored.parquet").exists()
