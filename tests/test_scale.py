"""Training on more rows than one machine holds gives what training in memory does. Needs Java 17 (`apt-get install openjdk-17-jre-headless`)."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from conftest import NAMED
from test_in_use import edit
from test_stores import upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("alone"),
    pytest.mark.skipif(not shutil.which("java"), reason="needs Java 17: apt-get install openjdk-17-jre-headless"),
]
FOLDER = """
import pathlib, sys, pyarrow.parquet as p
rows, folder = p.read_table('data/sample.parquet'), pathlib.Path('data/rows')
folder.mkdir()
for at in range(4):
    p.write_table(rows.slice(at * 5000, 5000), folder / f'{at}.parquet', row_group_size=1000)
"""
MANY = """
import pyarrow.parquet as p; from night_bus import problem; from night_bus.data import schema
p.write_table(schema.table(problem.sample(4_000_000, seed=1)), 'many.parquet', row_group_size=500_000)
"""
FITS = """
import pathlib, re, sys
from night_bus.base import params; from night_bus.training import disk, train
def megabytes(name):
    return int(re.search(name + r':\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]) / 1024
disk.FITTED, settings = int(sys.argv[1]), params.load()
with train.opened('disk', settings, 'many.parquet') as sides:
    pathlib.Path('/proc/self/clear_refs').write_text('5')  # the peak is counted from here
    before = megabytes('VmRSS')
    sides.fit(None, sides.older.target, settings)
    print(megabytes('VmHWM') - before)
"""
RUNS = """
import json, mlflow
from night_bus.tracking import store
client = store.connect()
run = client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1)[0]
inputs = {tag.value: each.dataset.digest for each in run.inputs.dataset_inputs for tag in each.tags}
print(json.dumps([run.data.tags['engine'], run.data.tags['data_fingerprint'], inputs]))
"""
TWO_EXECUTORS = "local-cluster[2,1,1500]"


@pytest.fixture
def project(alone, bake):
    """A function that makes a project with Spark and its sample as a folder."""

    def made(**answers):
        project = bake(**NAMED, **answers).borrow_environment()
        for words in (["data"], ["spark"]):
            done = project.make(*words, timeout=600)
            assert done.returncode == 0, done.stdout + done.stderr
        done = project.run(".venv/bin/python", "-c", FOLDER)
        assert done.returncode == 0, done.stderr
        return project

    return made


def train(project, engine, data="data/rows", **environment):
    """Train with an engine; gives the card."""
    done = project.make("train", f"ENGINE={engine}", f"DATA={data}", timeout=600, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(project.text("model/model.json"))


def agree(card, known):
    """Two trainings used the same rows, and their models are as good."""
    assert card["data"] == known["data"]
    for name, value in known["metrics"].items():
        assert card["metrics"][name] == pytest.approx(value, rel=0.01), name


@pytest.mark.parametrize("answers", [{"deployment": "web"}, {"deployment": "streaming", "problem": "churn"}])
def test_every_engine_gives_as_good_a_model_of_the_same_rows(project, answers):
    project = project(**answers)
    known = train(project, "memory")
    kept = known["data"]["train_rows"] + known["data"]["validation_rows"]
    assert kept + sum(known["data"]["dropped"].values()) == 20_000
    agree(train(project, "disk"), known)
    for master in ("local[2]", TWO_EXECUTORS):
        card = train(project, "spark", SPARK_MASTER=master)
        agree(card, known)
        assert (project.path / "model" / card["file"]).exists()
        told = json.loads(project.run(".venv/bin/python", "-c", RUNS).stdout.splitlines()[-1])
        sides = card["data"]["fingerprint"].split("-")
        assert told == ["spark", "-".join(sides), {"training": sides[0], "validation": sides[1]}]


@pytest.fixture
def many(bake):
    """A project with four million rides."""
    project = bake(**NAMED).borrow_environment()
    done = project.run(".venv/bin/python", "-c", MANY, timeout=300)
    assert done.returncode == 0, done.stderr
    return project


def test_trees_that_see_a_block_of_very_many_rows_are_as_good(many):
    found = {}
    for engine in ("memory", "disk"):
        done = many.make("train", f"ENGINE={engine}", "DATA=many.parquet", timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("each tree is fitted on about 1," in done.stdout) == (engine == "disk")
        found[engine] = json.loads(many.text("model/model.json"))["metrics"]["rmse"]
    assert found["disk"] == pytest.approx(found["memory"], rel=0.002)


def test_the_memory_of_a_fit_does_not_grow_with_rows_but_with_those_of_a_block(many):
    grown = []
    for fitted in (200_000, 10_000_000):
        done = many.run(".venv/bin/python", "-c", FITS, str(fitted), timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        grown.append(float(done.stdout.split()[-1]))
    # XGBoost needs about 42 bytes for each of 3.2 million rows if it has all of them at once, some of them in memory that was free.
    assert grown[1] - grown[0] > 40


def test_executors_read_rows_of_a_store(project, s3):
    project = project()
    known = train(project, "memory")
    upload(s3, project.path / "data" / "rows", "rows")
    card = train(project, "spark", "s3://rides/rows", SPARK_MASTER="local[2]")
    assert card["data"].pop("name") == "s3://rides/rows"
    agree(card, known | {"data": {name: value for name, value in known["data"].items() if name != "name"}})


def test_what_spark_cannot_do_is_told_in_one_line(project):
    project = project()
    (project.path / "data" / "rows" / "9.parquet").write_bytes(b"PAR1 and then nothing")
    done = project.make("train", "ENGINE=spark", "DATA=data/rows", SPARK_MASTER="local[2]")
    assert done.returncode != 0
    assert "9.parquet is not a readable parquet file" in done.stderr
    edit(project, r'^estimator = "xgboost"', 'estimator = "linear"')
    done = project.make("train", "ENGINE=spark", "DATA=data/rows", SPARK_MASTER="local[2]")
    assert "ENGINE=spark cannot fit linear; it can xgboost" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project.path / "model").exists()


def test_the_pipeline_registers_what_an_engine_fitted(project):
    project = project()
    for engine, version in (("disk", "1"), ("spark", "2")):
        done = project.make("pipeline", f"ENGINE={engine}", "DATA=data/rows", SPARK_MASTER="local[2]", timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"night-bus version {version} is" in done.stdout
        assert f"{'engine':18} {engine}" in project.make("trace", f"VERSION={version}").stdout


def descendants(process):
    """Every process below one: (id, command)."""
    listed = subprocess.run(["ps", "-ewwo", "pid=,ppid=,args="], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines() if len(line.split(maxsplit=2)) == 3]
    found = {process}
    for _ in range(8):
        found |= {int(pid) for pid, parent, _ in rows if int(parent) in found}
    return [(int(pid), command) for pid, _, command in rows if int(pid) in found]


def killed(project, which):
    """Start a training on two executors, kill one process of it, whose command has `which`; gives how it ended."""
    command = project.make_command("train", "ENGINE=spark", "DATA=data/rows")
    process = subprocess.Popen(
        command, cwd=project.path, env=project.environment(SPARK_MASTER=TWO_EXECUTORS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        for _ in range(600):
            running = " ".join(said for _, said in descendants(process.pid))
            if running.count("CoarseGrainedExecutorBackend") >= 2 and "pyspark.daemon" in running:
                break
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        time.sleep(2)
        victims = [pid for pid, said in descendants(process.pid) if which in said]
        os.kill(victims[-1], signal.SIGKILL)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err
    finally:
        for pid, _ in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_executor_or_driver_leaves_the_model_as_it_was_or_a_whole_new_one(project):
    project = project()
    known = train(project, "memory")
    code, _, err = killed(project, "CoarseGrainedExecutorBackend")
    if code:
        assert "run it again" in err
        assert "Traceback" not in err
        assert json.loads(project.text("model/model.json")) == known
    code, _, err = killed(project, "deploy.SparkSubmit")
    assert code != 0
    assert "run it again" in err
    assert "Traceback" not in err
    code, _, _ = killed(project, "-m night_bus train")
    assert code != 0
    assert not [path.name for path in project.path.iterdir() if path.name.startswith(".model-")]
    agree(train(project, "spark", SPARK_MASTER="local[2]"), known)
