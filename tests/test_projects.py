"""What a person types in a generated project, typed: each level's own tests and linters, and the README's commands."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request

import pytest
from conftest import NAMED

LEVELS = ("0", "1", "2")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(port, content):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


class Service:
    """`make serve` in a project, for the length of a with block."""

    def __init__(self, project):
        self.project, self.port = project, free_port()

    def __enter__(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL_", "MLFLOW_"))}
        kept |= {"PYTHONPATH": str(self.project.path / "src"), "WEB_CONCURRENCY": "1"}
        command = ["make", "--no-print-directory", "serve", f"PORT={self.port}"]
        self.process = subprocess.Popen(command, cwd=self.project.path, env=kept, start_new_session=True)
        for _ in range(300):
            assert self.process.poll() is None, "the service ended"
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=1).close()
                return self
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the service did not start")

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(20)


@pytest.mark.parametrize("level", ["1", "2"])
def test_the_tests_and_linters_of_a_level_pass_in_a_path_with_a_space(bake, level, tmp_path):
    project = bake(**NAMED, maturity_level=level)
    project.path = project.path.rename(tmp_path / "night bus").resolve()
    project.borrow_environment()
    for target in ("lint", "test"):
        done = project.make(target)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("level", LEVELS)
def test_the_commands_of_the_readme_work_in_their_order(bake, level):
    """Every line of every `sh` block, but the linters and tests, which have a test of their own."""
    project = bake(**NAMED, maturity_level=level).borrow_environment()
    blocks = re.findall(r"```sh\n(.*?)```", project.text("README.md"), flags=re.S)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    ran = 0
    for line in lines:
        words = line.split()
        assert words[0] == "make", line
        if words[1] in ("lint", "test", "serve", "predict"):
            continue
        done = project.make(*words[1:])
        assert done.returncode == 0, f"{line}: {done.stderr}"
        ran += 1
    assert ran >= 3
    with Service(project) as service:
        done = project.make("predict", f"PORT={service.port}")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        assert 1 < answer["duration"] < 60
        assert answer["model_version"].startswith("1" if level == "2" else "run-")


def test_the_served_predictions_have_the_logged_metric(bake):
    """Validation rows over HTTP, one by one and as lists, give the run's rmse to four digits."""
    project = bake(**NAMED, maturity_level="1").borrow_environment()
    assert project.make("train").returncode == 0
    code = (
        "import json, sys; from night_bus import data, params; p = params.load();"
        "_, v = data.split(data.load(p.data), p.data.validation_share); v = v.take(slice(400));"
        "rows = [dict(zip(v.columns, row)) for row in zip(*(c.astype(str).tolist() if c.dtype.kind == 'M' else c.tolist()"
        " for c in v.columns.values()))]; json.dump([rows, v.target.tolist()], sys.stdout)"
    )
    rows, actual = json.loads(project.run(".venv/bin/python", "-c", code).stdout)
    expected = (
        "import sys; from night_bus import data, params, problem, predictor, source; p = params.load();"
        "_, v = data.split(data.load(p.data), p.data.validation_share); v = v.take(slice(400));"
        "print(problem.metrics(v.target, predictor.Predictor(source.fetch()).predict(v.columns))['rmse'])"
    )
    logged = float(project.run(".venv/bin/python", "-c", expected).stdout)
    with Service(project) as service:
        singly = [post(service.port, row)["duration"] for row in rows]
        together = [answer["duration"] for answer in post(service.port, rows)]
    assert singly == together
    rmse = math.sqrt(sum((a - b) ** 2 for a, b in zip(actual, singly, strict=True)) / len(actual))
    assert round(rmse, 4) == round(logged, 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "DATA=nothing.parquet"], "nothing.parquet does not exist"),
        (["train", "DATA=README.md"], "only .parquet and .csv"),
        (["data", "MONTH=2024-13"], "is no month"),
        (["serve"], "no model"),
        (["predict", "PORT=1"], "start the service"),
        (["image"], "no model"),
    ],
)
def test_a_failure_is_one_line_with_a_remedy_and_leaves_nothing(bake, words, said):
    project = bake(**NAMED, maturity_level="1").borrow_environment()
    before = project.files()
    done = project.make(*words)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert line.startswith("error: ")
    assert said in line
    assert project.files() == before
    assert not (project.path / "model").exists()


def test_make_alone_lists_every_target(bake):
    project = bake(**NAMED)
    listed = {line.split()[0]: line for line in project.make().stdout.splitlines()}
    wanted = [
        "setup",
        "data",
        "train",
        "pipeline",
        "serve",
        "predict",
        "ui",
        "test",
        "lint",
        "notebook",
        "image",
        "clean",
    ]
    assert set(wanted) <= set(listed)
    assert all(len(line) <= 80 for line in listed.values())


def test_the_notebook_of_level_0_runs(bake):
    project = bake(**NAMED, maturity_level="0").borrow_environment()
    code = (
        "import nbformat, nbclient; n = nbformat.read('notebooks/explore.ipynb', 4);"
        "nbclient.NotebookClient(n, resources={'metadata': {'path': 'notebooks'}}).execute()"
    )
    done = project.run(".venv/bin/python", "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_serving_path_imports_no_training_library(bake):
    project = bake(**NAMED).borrow_environment()
    code = (
        "import sys, night_bus.web; print([m for m in ('mlflow', 'pandas', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    assert project.run(".venv/bin/python", "-c", code).stdout.strip() == "[]"
