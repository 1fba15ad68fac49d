"""What was answered is in the log before anybody has the answer, and stays there."""

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from records import several

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.model import conformal
from {{ cookiecutter.__package }}.model.ab_split import Split
from {{ cookiecutter.__package }}.model.bundle import ModelError
from {{ cookiecutter.__package }}.model.predictor import PREDICTION, RECORDS
from {{ cookiecutter.__package }}.monitoring import prediction_log
from {{ cookiecutter.__package }}.monitoring.logged import refused, rows
from {{ cookiecutter.__package }}.monitoring.prediction_log import Log, Logged, PredictionLog
from {{ cookiecutter.__package }}.tools import predictions


def named(count):
    columns = schema.columns(RECORDS.validate_python(several(count), strict=False))
    ids, names = ([f"{start}-{at}" for at in range(count)] for start in ("key", "prediction"))
    return columns | {problem.ID: np.array(ids, object), PREDICTION: np.array(names, object)}


def lines(folder):
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path):
    return PredictionLog(tmp_path / "log", Log())


@pytest.fixture
def logged(predictor, log):
    return Logged(Split(predictor), log)


def test_a_line_has_the_id_time_version_role_record_answer_and_milliseconds(logged, tmp_path):
    columns = named(2)
    answers = logged.predict(columns)
    first, second = lines(tmp_path / "log")
    assert first["prediction_id"] == "prediction-0"
    assert first["role"] == "champion"
    assert first["model_version"] == logged.card["model_version"]
    assert first["time"].endswith("+00:00")
    assert 0 < first["milliseconds"] < 10_000
    assert first["record"][problem.ID] == "key-0"
    assert set(first["record"]) == {field.name for field in schema.FIELDS} | {problem.ID}
    name = next(iter(problem.Answer.model_fields))
    assert [first["answer"][name], second["answer"][name]] == answers[name].tolist()


def test_the_line_is_there_before_the_answer_is(logged, log, tmp_path, monkeypatch):
    seen = []
    note = log.note
    monkeypatch.setattr(log, "note", lambda *given: (note(*given), seen.append(len(lines(tmp_path / "log"))))[0])
    logged.predict(named(3))
    assert seen == [3]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_was_written_survives_a_process_that_is_killed_the_moment_after(tmp_path):
    code = f"""
import os, signal
import numpy as np
from {params.PACKAGE.name}.monitoring.prediction_log import Log, PredictionLog
from pathlib import Path
log = PredictionLog(Path({str(tmp_path / "log")!r}), Log())
said = dict(score=np.array([1.0]), model_version=np.array(["1"], object), role=np.array(["champion"], object))
log.note(dict(prediction_id=np.array(["last"], object), {problem.ID}=np.array(["a"], object)), said, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=params.PACKAGE.parent, check=False)
    assert done.returncode == -signal.SIGKILL
    (line,) = lines(tmp_path / "log")
    assert line["prediction_id"] == "last"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a file's size")
def test_a_full_disk_costs_lines_which_are_counted_and_never_an_answer(logged, log, tmp_path):
    logged.predict(named(1))
    (path,) = (tmp_path / "log").glob("*.jsonl")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # In the middle of the next line the file may grow no more, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, limits[1]))
        answers = [logged.predict(named(2)) for _ in range(3)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {len(each["role"]) for each in answers} == {2}
    assert log.lost == 6
    assert logged.card["serving"]["log_lines_lost"] == 6
    logged.predict(named(1))
    whole = []
    for line in path.read_text().splitlines():
        try:
            whole.append(json.loads(line)["prediction_id"])
        except ValueError:
            continue
    assert whole == ["prediction-0", "prediction-0"]


def test_old_and_many_files_make_room_for_new_ones(tmp_path, predictor, monkeypatch):
    monkeypatch.setattr(prediction_log, "FILE_BYTES", 4_000)
    log = PredictionLog(tmp_path, Log.model_construct(days=30, max_bytes=20_000))
    (tmp_path / "2020-01-01.host-1.jsonl").write_text("{}\n")
    for _ in range(200):
        Logged(Split(predictor), log).predict(named(3))
    assert not (tmp_path / "2020-01-01.host-1.jsonl").exists()
    files = list(tmp_path.glob("*.jsonl"))
    assert len(files) > 1
    assert sum(path.stat().st_size for path in files) < 20_000 + 4_000


@pytest.mark.parametrize("secret", ["", "known to few"])
def test_a_private_field_is_hashed_with_a_secret_or_left_out(tmp_path, predictor, monkeypatch, secret):
    monkeypatch.setenv("LOG_SECRET", secret)
    private = schema.FIELDS[0].name
    log = PredictionLog(tmp_path, Log(), (private, problem.ID))
    Logged(Split(predictor), log).predict(named(2))
    first, second = (line["record"] for line in lines(tmp_path))
    if secret:
        assert len(first[private]) == len(first[problem.ID]) == 64
        assert first[problem.ID] != second[problem.ID]
    else:
        assert (first[private], first[problem.ID]) == (None, None)


def test_a_private_number_is_a_text_of_the_table(tmp_path, predictor, monkeypatch):
    private = next(field for field in schema.FIELDS if field.kind is not str).name
    monkeypatch.setenv("LOG_SECRET", "known to few")
    monkeypatch.setenv("PREDICTION_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(problem, "PRIVATE", (private,), raising=False)
    Logged(Split(predictor), PredictionLog(tmp_path / "log", Log(), (private,))).predict(named(2))
    table = pa.Table.from_batches(predictions.batches(predictions.kinds()))
    assert [len(value) for value in table[private].to_pylist()] == [64, 64]


class Sure(Split):
    """A model that was trained with an interval."""

    def predict(self, columns):
        answers = super().predict(columns)
        ends = {name: 1.5 if "number" in each["type"] else "one" for name, each in conformal.FIELDS.items()}
        return answers | {name: np.full(len(answers["role"]), end, object) for name, end in ends.items()}


@pytest.mark.parametrize("coverage", [0.0, 0.9])
def test_the_table_has_the_interval_of_those_answers_that_had_one(tmp_path, predictor, monkeypatch, coverage):
    monkeypatch.setattr(conformal.Interval, "load", lambda: conformal.Interval(coverage=coverage))
    monkeypatch.setenv("PREDICTION_LOG", str(tmp_path / "log"))
    monkeypatch.setattr("sys.argv", ["make predictions", "--output", str(tmp_path / "log.parquet")])
    log = PredictionLog(tmp_path / "log", Log())
    Logged(Split(predictor), log).predict(named(2))
    predictions.main()
    assert not set(conformal.FIELDS) & set(pa.parquet.read_schema(tmp_path / "log.parquet").names)
    Logged(Sure(predictor), log).predict(named(3) | {PREDICTION: np.array(["x", "y", "z"], object)})
    predictions.main()
    table = pa.parquet.read_table(tmp_path / "log.parquet")
    assert set(conformal.FIELDS) <= set(table.column_names)
    assert all(table[name].null_count == 2 for name in conformal.FIELDS)


def test_a_file_that_another_process_has_removed_is_followed_by_a_new_one(logged, log, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction_log, "LOOK_SECONDS", 0)
    logged.predict(named(1))
    (path,) = (tmp_path / "log").glob("*.jsonl")
    path.unlink()
    logged.predict(named(2))
    assert len(lines(tmp_path / "log")) == 2
    assert log.lost == 0


def test_a_file_that_cannot_be_closed_costs_no_line(logged, log, tmp_path, monkeypatch):
    logged.predict(named(1))

    def fails(number):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(prediction_log.os, "close", fails)
    monkeypatch.setattr(prediction_log, "FILE_BYTES", 1)
    logged.predict(named(2))
    assert (len(lines(tmp_path / "log")), log.lost) == (3, 0)


def test_a_folder_that_cannot_be_written_is_told_before_anybody_waits_for_an_answer(tmp_path):
    (tmp_path / "log").write_text("a file is in the way")
    with pytest.raises(ModelError, match="cannot be written"):
        PredictionLog(tmp_path / "log", Log()).check()


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--until", "2024-13-01"]])
def test_what_is_no_day_is_told_by_its_name(words, monkeypatch):
    monkeypatch.setattr("sys.argv", ["make predictions", "--output", "x.parquet", *words])
    with pytest.raises(UserError, match=f"{words[0][2:].upper()}={words[1]} is no day or time"):
        predictions.main()


def test_missing_values_are_null(tmp_path, predictor):
    optional = [field for field in schema.FIELDS if not field.required]
    record = {name: value for name, value in several(1)[0].items() if name not in [field.name for field in optional]}
    records = RECORDS.validate_python([record], strict=False)
    Logged(Split(predictor), PredictionLog(tmp_path, Log())).predict(schema.columns(records))
    (line,) = lines(tmp_path)
    assert all(line["record"][field.name] is None for field in optional)


def test_processes_that_are_forked_off_write_files_of_their_own(logged, tmp_path):
    logged.predict(named(1))
    if not (child := os.fork()):
        logged.predict(named(1))
        os._exit(0)
    os.waitpid(child, 0)
    logged.predict(named(1))
    assert sorted(len(path.read_text().splitlines()) for path in (tmp_path / "log").glob("*.jsonl")) == [1, 2]


def test_lines_that_another_program_has_written_are_left_out(tmp_path):
    whole = {
        "prediction_id": "p1",
        "time": "2026-01-01T10:00:00.000+00:00",
        "model_version": "1",
        "role": "champion",
        "milliseconds": 1.0,
        "record": {},
        "answer": {},
    }
    wrong = [
        *({name: value for name, value in whole.items() if name != left_out} for left_out in whole),
        *(whole | {"prediction_id": "p2", **each} for each in ({"record": []}, {"answer": 3}, {"time": "2026-01-01"})),
        whole | {"prediction_id": ["p3"]},
        *(whole | {"prediction_id": "p4", "milliseconds": each} for each in ("long", {}, [], 10**400, -1)),
        {"refused": None, "time": "2026-01-01T10:00:00.000+00:00"},
        {"refused": 1, "time": "at noon"},
    ]
    path = tmp_path / "2026-01-01.host-1.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in [*wrong, whole, [], 7]))
    assert list(rows(tmp_path)) == [whole]
    assert list(refused(tmp_path)) == []
