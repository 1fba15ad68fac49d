"""The commands of a generated project: each level's own tests and linters, and the README's commands."""

import contextlib
import json
import math
import re
import shlex
import shutil
import urllib.error
import urllib.request

import pytest
from conftest import MYPY, NAMED, answers_at, free_port, service, tracking_server, worker


def post_json(port, content):
    """Post to the service; gives the status and the answer, whether it is one or a refusal."""
    body = json.dumps(content).encode()
    url, headers = f"http://127.0.0.1:{port}/predict", {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def post(port, content):
    """The service's answer to a valid request."""
    status, answer = post_json(port, content)
    assert status == 200, answer
    return answer


PAIRS = [
    ("ride-duration", "web", "local", "2"),
    *(
        pytest.param(problem, deployment, tracking, level, marks=pytest.mark.slow)
        for problem, deployment, tracking, level in [
            ("ride-duration", "batch", "local", "2"),
            ("churn", "web", "remote", "2"),
            ("churn", "streaming", "local", "1"),
            ("own", "streaming", "remote", "2"),
            ("ride-duration", "web", "local", "4"),
            ("churn", "batch", "remote", "3"),
            ("own", "streaming", "local", "4"),
            ("churn", "batch", "remote", "1"),
        ]
    ),
]
"""Every pair of a problem, a deployment, a way of tracking and a level that has tests; most of them among the slow runs."""


@pytest.mark.parametrize(("problem", "deployment", "tracking", "level"), PAIRS)
def test_the_tests_of_a_level_pass_in_a_path_with_a_space(bake, problem, deployment, tracking, level, tmp_path):
    project = bake(**NAMED, problem=problem, deployment=deployment, tracking=tracking, maturity_level=level)
    project.path = project.path.rename(tmp_path / "night bus").resolve()
    project.borrow_environment()
    done = project.make("test", timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("level", ["1", "2"])
def test_the_linters_of_a_level_pass_in_a_path_with_a_space(bake, level, tmp_path):
    """`make lint` itself; its tools are run on every combination elsewhere."""
    project = bake(**NAMED, maturity_level=level)
    project.path = project.path.rename(tmp_path / "night bus").resolve()
    done = project.borrow_environment().make("lint", MYPY_CACHE_DIR=MYPY)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


SERVERS = {"serve", "broker", "stream", "watch"}
ELSEWHERE = {"lint", "test", "spark", "predict", "produce"}
"""Commands that other tests run, or that need a running server."""


READMES = [
    ("ride-duration", "web", "local", "0"),
    *(
        pytest.param(problem, deployment, tracking, level, marks=pytest.mark.slow)
        for problem, deployment, tracking, level in [
            ("churn", "web", "local", "1"),
            ("own", "streaming", "local", "1"),
            ("churn", "web", "remote", "2"),
            ("churn", "batch", "local", "0"),
            ("ride-duration", "streaming", "local", "2"),
            ("ride-duration", "web", "local", "2"),
            ("ride-duration", "batch", "local", "2"),
            ("ride-duration", "batch", "remote", "0"),
            ("churn", "batch", "local", "1"),
            ("churn", "streaming", "local", "0"),
            ("churn", "streaming", "remote", "2"),
            ("churn", "web", "local", "3"),
            ("own", "batch", "local", "4"),
            ("ride-duration", "web", "local", "4"),
        ]
    ),
]
"""Every deployment at every level, with each problem and each way of tracking by turns; most of them among the slow runs."""


@pytest.mark.parametrize(("problem", "deployment", "tracking", "level"), READMES)
def test_the_commands_of_the_readme_work_in_their_order(bake, problem, deployment, tracking, level):
    """Every line of every `sh` block, except those with a separate test."""
    answers = {"problem": problem, "deployment": deployment, "tracking": tracking, "maturity_level": level}
    project = bake(**NAMED, **answers).borrow_environment()
    fields = {"ride-duration": ("duration", 1, 60), "churn": ("churn_probability", 0, 1), "own": ("value", 0, 80)}
    field, least, most = fields[problem]
    with contextlib.ExitStack() as servers:
        answer = type_the_readme(project, deployment, level, field, servers)
    assert least < answer < most


def type_the_readme(project, deployment, level, field, servers):
    """Run the commands of a project's README; servers run until the end. Returns one prediction."""
    blocks = re.findall(r"```sh\n(.*?)```", project.text("README.md"), flags=re.S)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    assert all(words[0] == "make" for words in lines)
    typed = [words[1:] for words in lines if words[1] not in SERVERS | ELSEWHERE and "ENGINE=spark" not in words]
    for words in typed:
        if words == ["tracking-server"]:
            servers.enter_context(tracking_server(project))
            continue
        if words == ["quality"] and deployment == "web":  # a prediction was requested by then
            with service(project) as port:
                assert project.make("predict", f"PORT={port}").returncode == 0
        done = project.make(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}"
    assert len(typed) >= 3
    version = "1" if level >= "2" else "run-"
    if deployment == "web":
        assert {words[1] for words in lines} >= {"serve", "predict"}
        with service(project) as port:
            done = project.make("predict", f"PORT={port}")
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout.splitlines()[-1])
        assert answer["model_version"].startswith(version)
        return answer[field]
    if deployment == "streaming":
        assert {words[1] for words in lines} >= {"broker", "stream", "watch", "produce"}
        (produce,) = [words[1:] for words in lines if words[1] == "produce"]
        with worker(project) as address:
            done = project.make(*produce, KAFKA_BOOTSTRAP_SERVERS=address)
            assert done.returncode == 0, done.stderr
            done = project.make("watch", "COUNT=200", KAFKA_BOOTSTRAP_SERVERS=address)
        kinds = [line.split()[0] for line in done.stdout.splitlines()]
        assert (kinds.count("predictions"), kinds.count("dead-letters")) == (180, 20)
        assert f"model_version {version}" in done.stdout
        return float(re.search(rf"{field} ([\d.]+)", done.stdout)[1])
    code = "import pyarrow.parquet as p, sys; t = p.ParquetFile(sys.argv[1]).read(); print(len(t), t[sys.argv[2]][0])"
    done = project.run(".venv/bin/python", "-c", code, "scored/files/sample.parquet", field)
    rows, answer = done.stdout.split()
    assert int(rows) == 20_000
    return float(answer)


@pytest.mark.slow
def test_the_served_predictions_have_the_logged_metric(bake):
    """Validation rows over HTTP, one by one and as lists, give the run's rmse to four digits."""
    project = bake(**NAMED, maturity_level="1").borrow_environment()
    assert project.make("train").returncode == 0
    code = (
        "import json, sys; from night_bus.base import params; from night_bus.data import clean, read; from night_bus.data.split import split;"
        "p = params.load();"
        "_, v = split(clean.clean(*read.rows(p.data)), p.data.validation_share); v = v.take(slice(400));"
        "rows = [dict(zip(v.columns, row)) for row in zip(*(c.astype(str).tolist() if c.dtype.kind == 'M' else c.tolist()"
        " for c in v.columns.values()))]; json.dump([rows, v.target.tolist()], sys.stdout)"
    )
    rows, actual = json.loads(project.run(".venv/bin/python", "-c", code).stdout)
    expected = (
        "from night_bus import metrics; from night_bus.base import params; from night_bus.data import clean, read;"
        "from night_bus.data.split import split; from night_bus.model import bundle, load; from night_bus.model.predictor import Predictor;"
        "p = params.load();"
        "_, v = split(clean.clean(*read.rows(p.data)), p.data.validation_share); v = v.take(slice(400));"
        "print(metrics.metrics(v.target, Predictor(bundle.read(load.folder())).measured(v.columns))['rmse'])"
    )
    logged = float(project.run(".venv/bin/python", "-c", expected).stdout)
    with service(project) as port:
        singly = [post(port, row)["duration"] for row in rows]
        together = [answer["duration"] for answer in post(port, rows)]
    assert singly == together
    rmse = math.sqrt(sum((a - b) ** 2 for a, b in zip(actual, singly, strict=True)) / len(actual))
    assert round(rmse, 4) == round(logged, 4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "DATA=nothing.parquet"], "nothing.parquet does not exist"),
        (["train", "DATA=README.md"], "only .parquet, .csv"),
        (["data", "MONTH=2024-13"], "is no month"),
        (["serve"], "no model"),
        (["predict", "PORT=1"], "start it with `make serve`"),
        (["image"], "no model"),
        (["score"], "what is to be scored"),
        (["score", "INPUT=nothing.parquet", "OUTPUT=x.parquet"], "nothing.parquet: there is no such file"),
        (["score", "INPUT=README.md", "OUTPUT=x.parquet"], "only .parquet, .csv"),
        (["about"], "which file?"),
        (["stream"], "no model"),
        (["produce"], "start one with `make broker`"),
        (["watch"], "start one with `make broker`"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_one_line_with_a_remedy_and_leaves_nothing(bake, words, said):
    doors = {"score": "batch", "about": "batch", "stream": "streaming", "produce": "streaming", "watch": "streaming"}
    level = "2" if words[0] == "data" else "1"
    project = bake(**NAMED, deployment=doors.get(words[0], "web"), maturity_level=level).borrow_environment()
    before = project.files()
    done = project.make(*words, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert line.startswith("error: ")
    assert said in line
    assert project.files() == before
    assert not (project.path / "model").exists()


@pytest.mark.parametrize(
    ("deployment", "own"),
    [
        ("web", {"serve", "predict"}),
        ("batch", {"score", "about"}),
        ("streaming", {"stream", "broker", "produce", "watch"}),
    ],
)
def test_make_alone_lists_every_target(bake, deployment, own):
    project = bake(**NAMED, deployment=deployment)
    lines = [line for line in project.make().stdout.splitlines() if line.startswith("  ")]
    listed = {line.split()[0]: line for line in lines}
    always = {
        "setup",
        "data",
        "train",
        "pipeline",
        "ui",
        "add",
        "test",
        "lint",
        "notebook",
        "image",
        "clean",
    }
    assert always | own <= set(listed)
    assert all(len(line) <= 80 for line in listed.values())


def test_the_notebook_of_level_0_runs(bake):
    project = bake(**NAMED, maturity_level="0").borrow_environment()
    code = (
        "import nbformat, nbclient; n = nbformat.read('notebooks/explore.ipynb', 4);"
        "nbclient.NotebookClient(n, resources={'metadata': {'path': 'notebooks'}}).execute()"
    )
    done = project.run(".venv/bin/python", "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]


ANSWERED_BY_THE_IMAGE = """
import importlib, importlib.metadata, json, pathlib, sys
locked = set(json.loads(pathlib.Path("Pipfile.lock").read_text())["default"])
packages = importlib.metadata.packages_distributions()
class OnlyTheLocked:
    def find_spec(self, name, path=None, target=None):
        owners = {each.lower().replace("_", "-") for each in packages.get(name.partition(".")[0], ())}
        if owners and not owners & locked:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)
sys.meta_path.insert(0, OnlyTheLocked())
importlib.import_module("night_bus.serving." + sys.argv[1])
from night_bus import problem
from night_bus.model import bundle, predictor
model = predictor.Predictor(bundle.read(pathlib.Path(sys.argv[2])))
print(*(len(answers) for answers in model.predict(problem.sample(3, seed=1)).values()))
"""


@pytest.mark.parametrize(("deployment", "module"), [("web", "app"), ("batch", "batch"), ("streaming", "worker")])
def test_a_prediction_needs_only_the_packages_that_the_image_has(bake, trained, deployment, module):
    project = bake(**NAMED, deployment=deployment).borrow_environment()
    done = project.run(".venv/bin/python", "-c", ANSWERED_BY_THE_IMAGE, module, str(trained))
    assert (set(done.stdout.split()), done.stderr) == ({"3"}, "")


def test_each_request_is_a_line_of_json_where_that_is_asked_for(bake, trained):
    project = bake(**NAMED, maturity_level="1").borrow_environment()
    shutil.copytree(trained, project.path / "model")
    port = free_port()
    up = f"http://127.0.0.1:{port}/readyz"
    record = {"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}
    with project.running("serve", f"PORT={port}", until=lambda _: answers_at(up), ACCESS_LOG="1") as process:
        answer = post(port, record)
        many = post(port, [record, record])
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/%22%5C%0A")
        lines = []
        while len(lines) < 3:
            line = process.stdout.readline()
            lines += [json.loads(line)] if line.startswith("{") and "readyz" not in line else []
    # Workers write their lines themselves, so two of them may do so in any order.
    (one,) = [line for line in lines if line["prediction_id"] == answer["prediction_id"]]
    (several,) = [line for line in lines if line["prediction_id"] and line is not one]
    (strange,) = [line for line in lines if not line["prediction_id"]]
    assert (one["method"], one["path"], one["status"]) == ("POST", "/predict", 200)
    assert (one["model_version"], one["prediction_id"]) == (answer["model_version"], answer["prediction_id"])
    assert 0 < one["milliseconds"] < 5_000
    assert [each["prediction_id"] for each in many] == [f"{several['prediction_id']}-{number}" for number in (0, 1)]
    assert (strange["path"], strange["status"]) == ('/"\\\n', 404)
    assert "trip_distance" not in json.dumps(lines)
