"""The scoring job: every row is scored or refused with its reason, and an output is whole or not there."""

import gzip
import json
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from records import ANSWER, BOUNDED, FIRST_REQUIRED, REQUIRED, RULED, WRONG, broken, needs_a_rule

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params, progress
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema, storage
from {{ cookiecutter.__package }}.data.read import TYPES
from {{ cookiecutter.__package }}.data.read import read as from_file
from {{ cookiecutter.__package }}.serving import batch, job, job_run
from {{ cookiecutter.__package }}.serving.job import Batch
from {{ cookiecutter.__package }}.serving.job_run import JobRun
from {{ cookiecutter.__package }}.serving.scorer import RECORD

pytestmark = needs_a_rule
NUMBER = next((field for field in FIRST_REQUIRED if field.kind in (int, float)), BOUNDED)
LAST = next((field for field in RULED[::-1] if field.required), BOUNDED)


@pytest.fixture
def file(tmp_path):
    """A file of 500 rows with a column that the model does not need."""
    columns = {"note": [f"r{i}" for i in range(500)], **problem.prepare(problem.sample(500, seed=3))}
    pa.parquet.write_table(schema.table(columns), tmp_path / "new.parquet")
    return tmp_path / "new.parquet"


@pytest.fixture
def score(predictor, tracking_store):
    """Score a file, folder or glob; gives what the job counted."""

    def run(source, target, force=False, since="", until="", **settings):
        units = job.plan(storage.find(str(source), since, until), storage.place(str(target)))
        log = JobRun(predictor.card, str(source), str(target))
        counts = job.Job(predictor, Batch(**settings), log).run(units, force=force)
        log.end("FINISHED", rows=counts.rows)
        return counts

    return run


def read(path):
    return pa.parquet.read_table(path)


def without_ids(rows):
    """The same rows, without what a record is known by."""
    return rows.select([name for name in rows.column_names if name != problem.ID])


def with_bad_rows(path):
    """The same rows; three of them break a rule of the record."""
    columns = {
        name: column.to_pylist() for name, column in zip(read(path).column_names, read(path).columns, strict=True)
    }
    columns[BOUNDED.name][7] = broken(BOUNDED)
    columns[BOUNDED.name][8] = None
    columns[LAST.name][9] = broken(LAST)
    pa.parquet.write_table(pa.table(columns), path)
    return path


def test_the_output_has_the_input_s_rows_and_the_same_answers_as_the_predictor(score, file, predictor, tmp_path):
    counts = score(file, tmp_path / "scored.parquet", batch_rows=64)
    given, scored = read(file), read(tmp_path / "scored.parquet")
    expected = predictor.predict({field.name: given[field.name].to_numpy() for field in schema.FIELDS})
    first = ANSWER[0]
    assert (counts.rows, counts.rejected) == (500, 0)
    kept = [f"given_{name}" if name in ANSWER else name for name in given.column_names]
    assert scored.select(kept).rename_columns(given.column_names).equals(given)
    assert scored[first].to_pylist() == expected[first].tolist()
    assert set(scored["model_version"].to_pylist()) == {predictor.card["model_version"]}
    assert scored.column_names[-len(ANSWER) - 2 :] == [*ANSWER, "model_version", "scored_at"]


def test_csv_gives_the_same_answers_as_parquet(score, file, tmp_path):
    pa.csv.write_csv(read(file), tmp_path / "file.csv")
    score(file, tmp_path / "a.parquet")
    score(tmp_path / "file.csv", tmp_path / "b.parquet")
    score(tmp_path / "file.csv", tmp_path / "c.csv")
    expected = read(tmp_path / "a.parquet")[ANSWER[0]].to_pylist()
    assert read(tmp_path / "b.parquet")[ANSWER[0]].to_pylist() == expected
    assert pa.csv.read_csv(tmp_path / "c.csv")[ANSWER[0]].to_pylist() == expected


def test_a_csv_file_is_read_whatever_separates_it_and_packed_or_not(score, file, tmp_path):
    given = read(file).drop_columns("note")
    pa.csv.write_csv(given, tmp_path / "plain.csv")
    lines = [line.replace(",", ";").replace(".", ",") for line in (tmp_path / "plain.csv").read_text().splitlines()]
    with gzip.open(tmp_path / "other.csv.gz", "wt") as packed:
        packed.write("\n".join(lines) + "\n")
    score(file, tmp_path / "a.parquet")
    counts = score(tmp_path / "other.csv.gz", tmp_path / "b.csv.gz")
    assert (counts.rows, counts.rejected) == (500, 0)
    with gzip.open(tmp_path / "b.csv.gz") as packed:
        answers = pa.csv.read_csv(packed)[ANSWER[0]].to_pylist()
    assert answers == read(tmp_path / "a.parquet")[ANSWER[0]].to_pylist()


def test_a_file_that_is_bad_all_through_is_not_read_to_its_end(score, tmp_path):
    write_csv(tmp_path / "new.csv", problem.EXAMPLE)
    with (tmp_path / "new.csv").open("a") as given:
        given.writelines(f"{'x' * 50},2,\n" for _ in range(200_000))
    counts = score(tmp_path / "new.csv", tmp_path / "scored.csv")
    assert counts.refused[0].endswith("rows were refused; the rest was not read")
    assert 10_000 < counts.rejected < 190_000
    assert not (tmp_path / "scored.csv").exists()
    assert len(read(tmp_path / "scored.csv.rejected.parquet")) == counts.rejected


def test_a_line_that_is_no_utf_8_fails_the_file_and_is_told_once(score, tmp_path, capfd):
    write_csv(tmp_path / "new.csv", problem.EXAMPLE)
    with (tmp_path / "new.csv").open("ab") as given:
        given.write(b"\xff,1\n")
    counts = score(tmp_path / "new.csv", tmp_path / "scored.parquet")
    assert len(counts.failed) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_bad_lines_are_written_as_they_come(score, tmp_path):
    """Whoever kept them until the end would need memory for all of a file's, and time to look them up in each batch."""
    write_csv(tmp_path / "new.csv", problem.EXAMPLE)
    with (tmp_path / "new.csv").open("a") as given:
        given.writelines(f"{'x' * 500},2,\n" for _ in range(80_000))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    counts = score(tmp_path / "new.csv", tmp_path / "scored.csv", max_rejected_share=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.rejected == 80_000
    assert peak < 25_000_000
    assert pa.total_allocated_bytes() - before < 25_000_000


@pytest.mark.skipif(not problem.TIME, reason="the record has no time")
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_whole_number_is_no_time(score, file, tmp_path, ending):
    given = read(file)
    place = given.column_names.index(problem.TIME)
    numbers = given.set_column(place, problem.TIME, given[problem.TIME].cast("timestamp[ms]").cast("int64"))
    write = pa.csv.write_csv if ending == "csv" else pa.parquet.write_table
    write(numbers, tmp_path / f"numbers.{ending}")
    counts = score(tmp_path / f"numbers.{ending}", tmp_path / "scored.parquet")
    assert counts.failed or counts.rejected == 500
    assert not (tmp_path / "scored.parquet").exists()
    with pytest.raises(UserError, match=f"column {problem.TIME} should hold local times"):
        from_file(tmp_path / f"numbers.{ending}")


def test_the_refused_rows_of_one_output_outlive_another_of_the_same_stem(score, file, tmp_path):
    clean = shutil.copy(file, tmp_path / "clean.parquet")
    score(with_bad_rows(file), tmp_path / "scored.csv")
    score(clean, tmp_path / "scored.parquet")
    assert len(read(tmp_path / "scored.csv.rejected.parquet")) == 3
    assert not (tmp_path / "scored.parquet.rejected.parquet").exists()


def test_refused_rows_are_beside_the_output_with_number_and_reason(score, file, tmp_path):
    counts = score(with_bad_rows(file), tmp_path / "scored.parquet", batch_rows=100)
    refused = read(tmp_path / "scored.parquet.rejected.parquet").to_pylist()
    assert (counts.rows, counts.rejected, counts.refused) == (500, 3, [])
    assert len(read(tmp_path / "scored.parquet")) == 497
    assert [row["row_number"] for row in refused] == [8, 9, 10]
    assert [row["note"] for row in refused] == ["r7", "r8", "r9"]
    reasons = [row["reason"] for row in refused]
    assert [reason.split(":")[0] for reason in reasons] == [BOUNDED.name, BOUNDED.name, LAST.name]
    assert reasons == [
        words({BOUNDED.name: broken(BOUNDED)}),
        words({BOUNDED.name: None}),
        words({LAST.name: broken(LAST)}),
    ]


def words(change):
    """How the record itself refuses a value."""
    with pytest.raises(ValueError, match="1 validation error") as error:
        RECORD.validate_json(json.dumps({**problem.EXAMPLE, **change}))
    return schema.reason(error.value)


def write_csv(path, *records):
    """A CSV file of records; an absent value is an empty field."""
    lines = [",".join(str(record.get(name, "")) for name in problem.EXAMPLE) for record in records]
    path.write_text("\n".join([",".join(problem.EXAMPLE), *lines]) + "\n")


def test_a_csv_row_is_refused_in_the_words_of_the_record_itself(score, tmp_path):
    changes = [{name: value} for name, value in WRONG if isinstance(value, str) and value != "7"]
    changes += [{BOUNDED.name: broken(BOUNDED)}]
    write_csv(tmp_path / "new.csv", *({**problem.EXAMPLE, **change} for change in changes))
    score(tmp_path / "new.csv", tmp_path / "scored.csv", max_rejected_share=1)
    reasons = [row["reason"] for row in read(tmp_path / "scored.csv.rejected.parquet").to_pylist()]
    assert reasons == [words(change) for change in changes]


def test_a_line_with_too_few_columns_is_kept_with_its_number(score, tmp_path):
    write_csv(
        tmp_path / "new.csv", problem.EXAMPLE, problem.EXAMPLE, {**problem.EXAMPLE, BOUNDED.name: broken(BOUNDED)}
    )
    lines = (tmp_path / "new.csv").read_text().splitlines()
    lines[2] = "1,2"
    (tmp_path / "new.csv").write_text("\n".join(lines) + "\n")
    score(tmp_path / "new.csv", tmp_path / "scored.csv", max_rejected_share=1)
    rejected = read(tmp_path / "scored.csv.rejected.parquet").to_pylist()
    refused = {row["row_number"]: row["reason"] for row in rejected}
    assert refused[2] == f"the line has 2 columns, not {len(problem.EXAMPLE)}: 1,2"
    assert refused[3].startswith(f"{BOUNDED.name}: ")


def test_too_many_refused_rows_leave_the_old_output_and_tell_which_they_were(score, file, tmp_path):
    score(file, tmp_path / "scored.parquet")
    before = (tmp_path / "scored.parquet").read_bytes()
    counts = score(with_bad_rows(file), tmp_path / "scored.parquet", max_rejected_share=0.001)
    assert "3 of 500 rows were refused" in counts.refused[0]
    assert batch.report(counts, 1) == batch.TOO_MANY_REJECTED
    assert (tmp_path / "scored.parquet").read_bytes() == before
    assert len(read(tmp_path / "scored.parquet.rejected.parquet")) == 3


def test_rows_that_are_no_longer_refused_leave_no_list_behind(score, file, tmp_path):
    sound = file.read_bytes()
    score(with_bad_rows(file), tmp_path / "scored.parquet")
    file.write_bytes(sound)
    score(file, tmp_path / "scored.parquet")
    assert not (tmp_path / "scored.parquet.rejected.parquet").exists()


@pytest.fixture
def days(file, tmp_path):
    """A folder with a part a day."""
    for day in ("2024-01-30", "2024-01-31", "2024-02-01"):
        (tmp_path / "in" / f"day={day}").mkdir(parents=True)
        (tmp_path / "in" / f"day={day}" / "part.parquet").write_bytes(file.read_bytes())
    return tmp_path / "in"


def outputs(folder):
    return sorted(path.parent.name[4:] for path in folder.rglob("*.parquet"))


def test_a_folder_is_scored_file_by_file_and_resumed_where_something_is_missing(score, days, tmp_path):
    assert score(days, tmp_path / "out").files == 3
    (tmp_path / "out" / "day=2024-01-31" / "part.parquet").unlink()
    counts = score(days, tmp_path / "out")
    assert (counts.files, counts.up_to_date) == (1, 2)
    assert outputs(tmp_path / "out") == ["2024-01-30", "2024-01-31", "2024-02-01"]


def test_scoring_twice_replaces_and_never_doubles(score, days, tmp_path):
    for _ in range(2):
        score(days, tmp_path / "out", force=True)
    assert sum(len(pa.parquet.ParquetFile(path).read()) for path in (tmp_path / "out").rglob("*.parquet")) == 1_500


def test_an_input_that_has_changed_is_scored_again(score, days, tmp_path):
    score(days, tmp_path / "out")
    with_bad_rows(days / "day=2024-01-30" / "part.parquet")
    counts = score(days, tmp_path / "out")
    assert (counts.files, counts.up_to_date, counts.rejected) == (1, 2, 3)


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("2024-01-31", "", ["2024-01-31", "2024-02-01"]),
        ("", "2024-01", ["2024-01-30", "2024-01-31"]),
        ("2024-01-31", "2024-01-31", ["2024-01-31"]),
        ("2024", "2024", ["2024-01-30", "2024-01-31", "2024-02-01"]),
    ],
)
def test_parts_are_picked_by_their_date(score, days, tmp_path, since, until, expected):
    score(days, tmp_path / "out", since=since, until=until)
    assert outputs(tmp_path / "out") == expected


def test_a_glob_into_one_file_has_the_parts_names_as_columns(score, days, tmp_path):
    score(f"{days}/day=2024-01-*/*.parquet", tmp_path / "january.parquet")
    scored = read(tmp_path / "january.parquet")
    assert len(scored) == 1_000
    assert set(scored["day"].to_pylist()) == {"2024-01-30", "2024-01-31"}


def test_a_damaged_file_is_named_and_does_not_stop_the_others(score, days, tmp_path):
    part = days / "day=2024-01-31" / "part.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    counts = score(days, tmp_path / "out")
    assert counts.files == 2
    assert len(counts.failed) == 1
    assert "day=2024-01-31" in counts.failed[0]
    assert batch.report(counts, 1) == 1
    assert outputs(tmp_path / "out") == ["2024-01-30", "2024-02-01"]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("model_version", ["7"], "the column model_version is there already"),
        (NUMBER.name, ["north"], f"column {NUMBER.name} should hold {TYPES[NUMBER.kind][1]}"),
        (REQUIRED[0].name, None, f"there is no column {REQUIRED[0].name}"),
    ],
)
def test_a_column_that_is_wrong_as_a_whole_fails_the_file_in_one_line(score, file, tmp_path, column, values, said):
    columns = dict(zip(read(file).column_names, read(file).slice(0, 1).columns, strict=True))
    columns.pop(column, None)
    pa.parquet.write_table(pa.table({**columns, **({column: values} if values else {})}), file)
    counts = score(file, tmp_path / "scored.parquet")
    assert said in counts.failed[0]
    assert "new.parquet" in counts.failed[0]
    assert not (tmp_path / "scored.parquet").exists()


def test_a_column_that_is_there_twice_fails_the_file_in_one_line(score, file, tmp_path):
    rows = without_ids(read(file))
    for name in (problem.ID, NUMBER.name):
        twice = rows.append_column(problem.ID, rows[NUMBER.name]).append_column(name, rows[NUMBER.name])
        pa.parquet.write_table(twice, file)
        assert f"the column {name} is there twice" in score(file, tmp_path / "scored.parquet").failed[0]


def test_ids_are_of_any_type(score, file, tmp_path):
    rows = without_ids(read(file))
    for ids in (
        pa.array([10_000_000] * len(rows), pa.date32()),
        pa.array([b"\xff"] * len(rows)),
        pa.array([[1]] * len(rows)),
    ):
        pa.parquet.write_table(rows.append_column(problem.ID, ids), file)
        assert score(file, tmp_path / "scored.parquet").failed == []


def test_a_file_to_learn_from_keeps_its_target_beside_what_is_said_of_it(score, file, tmp_path):
    if problem.TARGET not in ANSWER:
        pytest.skip("an answer has no field of the target's name here")
    given = read(file).select([name for name in read(file).column_names if name != problem.TARGET])
    truths = pa.array([float(row) for row in range(len(given))])
    pa.parquet.write_table(given.append_column(problem.TARGET, truths), file)
    assert not score(file, tmp_path / "scored.parquet").failed
    scored = read(tmp_path / "scored.parquet")
    assert scored[f"given_{problem.TARGET}"].to_pylist()[:3] == [0.0, 1.0, 2.0]
    assert scored[problem.TARGET].to_pylist()[:3] != [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("nothing.parquet", "out.parquet", "there is no such file"),
        ("new.parquet", "new.parquet", "is an input too"),
        ("new.parquet", "out", "is no file"),
        (".", ".", "choose another"),
        ("ftp://host/x", "out", "cannot be opened"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_is_read(file, tmp_path, monkeypatch, source, target, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        job.plan(storage.find(source), storage.place(target))


def test_a_file_tells_which_model_scored_it_and_the_job_is_a_run(score, file, predictor, tmp_path, capsys):
    score(file, tmp_path / "scored.parquet")
    found = job_run.about(str(tmp_path / "scored.parquet"))
    assert found["model_run_id"] == predictor.card["run_id"]
    assert found["rows"] == "500"
    sys.argv = ["about", str(tmp_path / "scored.parquet")]
    job_run.main()
    assert f"run {found['job_run_id']} (finished)" in capsys.readouterr().out
    with pytest.raises(UserError, match="does not say which model"):
        job_run.about(str(file))


def test_a_store_that_is_away_does_not_stop_the_job(score, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    assert score(file, tmp_path / "scored.parquet").files == 1
    assert "this job is not logged" in capsys.readouterr().err


def test_a_log_hears_of_the_progress_and_the_time_that_is_left(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    with progress.Progress(1_000) as shown:
        shown.add(250)
    line = capsys.readouterr().err
    assert line.startswith("250 rows, ")
    assert line.endswith(" s left\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_stopped_leaves_nothing_half_written(trained, tmp_path, monkeypatch, stop):
    rows = schema.table(problem.sample(50_000 // len(schema.FIELDS), seed=1))
    pa.parquet.write_table(pa.concat_tables([rows] * 40), tmp_path / "new.parquet")
    monkeypatch.setenv("MODEL_URI", str(trained.folder))
    command = [sys.executable, "-m", params.PACKAGE.name, "batch", "--input", str(tmp_path / "new.parquet"), "--output"]
    environment = {"cwd": params.ROOT / "src", "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, str(tmp_path / "out" / "scored.parquet")], **environment)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/.scored*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(stop)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (143 if stop == signal.SIGTERM else -9)
    assert not (tmp_path / "out" / "scored.parquet").exists()
    left = list((tmp_path / "out").iterdir())
    if stop == signal.SIGTERM:
        assert said.splitlines()[-1] == "error: stopped by SIGTERM; nothing half-written was left behind"
        assert left == []
        return
    assert subprocess.run([*command, str(tmp_path / "out" / "scored.parquet")], cwd=params.ROOT / "src").returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scored.parquet"]
