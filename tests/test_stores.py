"""Rows in an object store: moto speaks S3's protocol here."""

import json
import urllib.request

import pytest
from conftest import NAMED, service

MONTHS = """
import pathlib, sys
import numpy as np, pyarrow.parquet as p
rows = p.read_table('data/sample.parquet')
month = np.asarray(rows['lpep_pickup_datetime']).astype('datetime64[M]').astype(str)
for name in sorted(set(month)):
    folder = pathlib.Path(f'data/months/month={name}')
    folder.mkdir(parents=True)
    p.write_table(rows.filter(month == name), folder / 'rides.parquet', row_group_size=1000)
"""


def done(project, *words, **environment):
    """Run make; gives what it printed."""
    ended = project.make(*words, timeout=600, **environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def refused(project, *words, **environment):
    """Run make, which has to fail in one line; gives that line."""
    ended = project.make(*words, timeout=600, **environment)
    assert ended.returncode != 0, ended.stdout
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in ended.stderr
    return line


def card(project):
    """The card of the model that was trained last."""
    return json.loads(project.text("model/model.json"))


def upload(s3, folder, prefix):
    """Copy the files of a folder to the store."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        s3.upload_file(str(path), "rides", f"{prefix}/{path.relative_to(folder).as_posix()}")


@pytest.fixture
def months(bake, s3):
    """A function that makes a project whose sample is in the store and in `data/months`, a part for each month."""

    def made(**answers):
        project = bake(**NAMED, **answers).borrow_environment()
        done(project, "data")
        assert project.run(".venv/bin/python", "-c", MONTHS).returncode == 0
        upload(s3, project.path / "data" / "months", "months")
        return project

    return made


def test_a_training_reads_months_of_a_store_as_it_reads_their_files(months):
    project = months(deployment="web", maturity_level="2")
    for engine in ("memory", "disk"):
        known = {}
        for words in (["DATA=data/months"], ["DATA=s3://rides/months"]):
            done(project, "train", f"ENGINE={engine}", *words)
            done(project, "train", f"ENGINE={engine}", *words, "SINCE=2024-01", "UNTIL=2024-01")
            known[words[0]] = card(project)
        files, store = known.values()
        assert store["data"]["name"] == "s3://rides/months?since=2024-01&until=2024-01"
        assert store["data"] == files["data"] | {"name": store["data"]["name"]}
        assert store["metrics"] == files["metrics"]
        assert store["data"]["span"].count("2024-01") == 2
        assert "2024-02" not in store["data"]["span"]
    assert "has no part named after a date from 2025" in refused(
        project, "train", "DATA=s3://rides/months", "SINCE=2025"
    )
    assert "nothing/here" in refused(project, "train", "DATA=s3://nothing/here")
    assert "name it, as DATA=" in refused(project, "train", "SINCE=2024-01")


@pytest.mark.slow
def test_a_gate_lets_the_champions_own_code_score_rows_of_a_store(months):
    project = months(deployment="web", maturity_level="3")
    done(project, "pipeline", "DATA=s3://rides/months", "SINCE=2024-01")
    code = project.path / "src" / "night_bus" / "problem.py"
    known = code.read_text(encoding="utf-8")
    same = "    matrix[:, 5] = columns['PULocationID'] == columns['DOLocationID']\n    return matrix"
    more = known.replace('"pickup_weekday")', '"pickup_weekday", "same_zone")').replace("    return matrix", same)
    assert more.count("same_zone") == more.count("matrix[:, 5]") == 1
    code.write_text(more, encoding="utf-8")
    told = done(project, "pipeline", "DATA=s3://rides/months", "SINCE=2024-02")
    assert "cannot be compared" not in told
    assert "one record" not in told, "the champion was loaded by the code that has changed"
    assert "night-bus version 2 is" in told
    number = done(project, "trace", "VERSION=2")
    assert "s3://rides/months?since=2024-02" in number


@pytest.mark.slow
def test_a_log_that_was_copied_to_a_store_is_read_there(months, s3):
    project = months(deployment="web", maturity_level="4")
    done(project, "pipeline")
    records = json.loads(project.run(".venv/bin/python", "-c", RECORDS).stdout.splitlines()[-1])
    with service(project) as port:
        for record in records:
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/predict", json.dumps(record).encode())
            asked.add_header("Content-Type", "application/json")
            with urllib.request.urlopen(asked, timeout=10) as answer:
                assert answer.status == 200
    upload(s3, project.path / "predictions", "log")
    store = {"PREDICTION_LOG": "s3://rides/log"}
    done(project, "predictions", "OUTPUT=here.parquet")
    done(project, "predictions", "OUTPUT=there.parquet", **store)
    count = "import sys, pyarrow.parquet as p; a, b = map(p.read_table, sys.argv[1:]); print(a == b, len(b))"
    told = project.run(".venv/bin/python", "-c", count, "here.parquet", "there.parquet").stdout
    assert told.split() == ["True", str(len(records))]
    here, there = done(project, "monitor"), done(project, "monitor", **store)
    assert there == here
    assert there
    assert "a service writes to a folder" in refused(project, "serve", "PORT=0", **store)


RECORDS = """
import json
from night_bus import problem
from night_bus.data import clean, read
from night_bus.base import params
rows = clean.clean(*read.rows(params.load().data))
print(json.dumps([{name: str(v[i]) if v.dtype.kind == 'M' else v[i].item() for name, v in rows.columns.items() if name in problem.Record.model_fields} for i in range(60)]))
"""
