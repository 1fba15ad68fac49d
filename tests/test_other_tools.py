"""The lines of docs/other-tools.md: MLflow's Projects, and the tools that take a logged model."""

import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import urllib.request

import pytest
from conftest import NAMED, ROOT, Project, answers_at, free_port, git, listens, wait
from test_remote import ask, team_server

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
STORE = "sqlite:///mlflow.db"
TEAM = "Data Team/ride-duration"
RUNS = """
import json, mlflow
client = mlflow.MlflowClient()
names = {each.experiment_id: each.name for each in client.search_experiments()}
print(json.dumps([
    {"id": run.info.run_id, "experiment": names[run.info.experiment_id], "status": run.info.status, "name": run.info.run_name,
     "models": len(run.outputs.model_outputs), "files": sorted(each.path for each in client.list_artifacts(run.info.run_id)),
     "tags": run.data.tags, "params": run.data.params, "metrics": run.data.metrics}
    for run in client.search_runs(list(names), order_by=["start_time ASC"])]))
"""


def lines(start):
    """The code block of the page that has a line with this start."""
    (found,) = re.findall(rf"```\w+\n((?:(?!```).*\n)*{re.escape(start)}.*\n(?:(?!```).*\n)*)```", PAGE)
    return found


def shell(project, script, **environment):
    """Run lines in a project as a person types them, with its environment active."""
    variables = {"PIPENV": f'"{ROOT}/.pipenv/bin/pipenv"', "PYTHONPATH": "", **environment}
    done = project.run("sh", "-ec", script, timeout=1800, **variables)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def origin(run):
    """What a run says of its code, data and settings, apart from MLflow's own tags."""
    return {name: value for name, value in run["tags"].items() if not name.startswith("mlflow.")}


@pytest.fixture(scope="module")
def project(cookies_session):
    """A default project with a champion and its sample as a file."""
    project = Project(pathlib.Path(cookies_session.bake().project_path)).borrow_environment()
    for words in (["pipeline"], ["data"]):
        done = project.make(*words)
        assert done.returncode == 0, done.stderr
    return project


def test_mlflow_run_makes_the_run_that_make_makes(project):
    assert project.make("train", "DATA=data/sample.parquet").returncode == 0
    before = ask(project, RUNS, MLFLOW_TRACKING_URI=STORE)
    shell(project, lines("mlflow run . -e train"), MLFLOW_TRACKING_URI=STORE)
    *same, run = ask(project, RUNS, MLFLOW_TRACKING_URI=STORE)
    assert same == before
    by_make = before[-1]
    assert origin(run) == origin(by_make)
    assert run["params"].pop("data") == "data/sample.parquet"
    for what in ("experiment", "status", "name", "models", "files", "params", "metrics"):
        assert run[what] == by_make[what], what
    assert run["experiment"] == TEAM
    assert run["tags"]["mlflow.project.entryPoint"] == "train"


def test_the_trials_of_a_search_are_beside_it_in_the_experiment_that_mlflow_run_was_given(bake, tmp_path):
    """In a folder with a space, where MLflow makes the store itself."""
    made = bake(**NAMED, deployment="batch")
    project = Project(pathlib.Path(shutil.move(made.path, tmp_path / "night bus"))).borrow_environment()
    shell(project, "mlflow run . -e tune -P trials=2 --env-manager local")
    shell(project, "mlflow run . -e pipeline --env-manager local && make data")
    shell(
        project,
        "mlflow run . -e score -P input=data/sample.parquet -P 'output=scored all/a.parquet' --env-manager local",
    )
    search, *trials, trained, job = ask(project, RUNS, MLFLOW_TRACKING_URI=STORE)
    assert [each["tags"]["mlflow.parentRunId"] for each in trials] == [search["id"]] * 2
    assert {each["experiment"] for each in (search, *trials, trained, job)} == {"Default"}
    assert "model-card.html" in trained["files"]
    assert f"run {trained['id']}" in " ".join(project.make("trace", "VERSION=1").stdout.split())
    assert job["metrics"]["rows"] == 20_000
    assert job["tags"]["model_run_id"] == trained["id"]
    assert job["id"] in project.make("about", "FILE=scored all/a.parquet").stdout


@pytest.fixture
def git_server(project, tmp_path):
    """A git server on this machine whose repository has the project in a subfolder of a branch; gives its address."""
    work, port = tmp_path / "work", free_port()
    kept = shutil.ignore_patterns(".venv", "mlartifacts", ".cache")
    shutil.copytree(project.path, work / "models", ignore=kept)
    git(work, "init", "-q", "-b", "main")
    git(work, "commit", "-q", "--allow-empty", "-m", "Begin")
    git(work, "checkout", "-q", "-b", "rides")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "Add the project")
    git(tmp_path, "clone", "-q", "--bare", "work", "served/rides.git")
    command = [
        "git",
        "daemon",
        "--export-all",
        f"--base-path={tmp_path / 'served'}",
        "--listen=127.0.0.1",
        f"--port={port}",
    ]
    server = subprocess.Popen(command, start_new_session=True)
    wait(lambda: server.poll() is None and listens(port), 30)
    yield f"git://127.0.0.1:{port}/rides.git"
    os.killpg(server.pid, 15)
    server.wait(30)


def test_mlflow_run_of_a_git_address_trains_that_commit_in_the_environment_of_its_lock(project, git_server, tmp_path):
    """Somewhere else, with an empty home folder and no package of the project's on the path."""
    elsewhere, home, clones = (tmp_path / name for name in ("elsewhere", "home", "clones"))
    for folder in (elsewhere, home, clones):
        folder.mkdir()
    shutil.copy(project.path / "data" / "sample.parquet", elsewhere)
    words = lines("mlflow run git@").replace(
        "git@git.example.com:team/ride-duration.git -v main", f"{git_server}#models -v rides"
    )
    words = words.replace("-e train", f"-e train -P data={elsewhere / 'sample.parquet'}")
    shell(Project(elsewhere), words, HOME=str(home), TMPDIR=str(clones))
    (run,) = ask(project, RUNS, MLFLOW_TRACKING_URI=f"sqlite:///{elsewhere / 'mlflow.db'}")
    head = subprocess.check_output(
        ["git", "rev-parse", "rides"], cwd=tmp_path / "served" / "rides.git", text=True
    ).strip()
    assert (run["experiment"], run["status"], run["models"]) == (TEAM, "FINISHED", 1)
    assert (run["tags"]["git_commit"], run["tags"]["git_dirty"]) == (head, "false")
    assert run["tags"]["mlflow.source.name"] == f"{git_server}#models"
    first = ask(project, RUNS, MLFLOW_TRACKING_URI=STORE)[0]
    assert run["metrics"] == first["metrics"]
    assert run["tags"]["lock_fingerprint"] == first["tags"]["lock_fingerprint"]
    (python,) = clones.glob("*/models/.venv/bin/python")
    code = "import importlib.metadata as m; print(m.version('xgboost-cpu'), m.version('mlflow'))"
    lock = json.loads(project.text("Pipfile.lock"))["train"]
    pinned = " ".join(lock[name]["version"].removeprefix("==") for name in ("xgboost-cpu", "mlflow"))
    assert subprocess.check_output([python, "-c", code], text=True).strip() == pinned


def test_mlflow_run_with_a_server_fills_the_run_that_it_has_made_there(bake):
    project = bake(tracking="remote").borrow_environment()
    with team_server(project) as team:
        maintainer = team.variables("max")
        shell(project, "mlflow run . -e tune -P trials=2 --env-manager local --experiment-name tries", **maintainer)
        shell(project, f"mlflow run . -e pipeline --env-manager local --experiment-name '{TEAM}'", **maintainer)
        search, *trials, trained = ask(project, RUNS, **maintainer)
        traced = project.make("trace", "VERSION=1", **maintainer).stdout
    assert [each["tags"]["mlflow.parentRunId"] for each in trials] == [search["id"]] * 2
    assert {each["experiment"] for each in (search, *trials)} == {"tries"}
    assert (trained["experiment"], trained["status"], trained["models"]) == (TEAM, "FINISHED", 1)
    assert (trained["tags"]["team"], trained["tags"]["mlflow.source.type"]) == ("Data Team", "PROJECT")
    assert f"run {trained['id']}" in " ".join(traced.split())
    assert not list((project.path / ".outbox").glob("mlartifacts/*/*"))


def test_pyfunc_needs_no_code_of_the_project(project):
    said = shell(
        project,
        f"cat > lines.py <<'EOF'\n{lines('model = mlflow.pyfunc')}EOF\npython lines.py",
        MLFLOW_TRACKING_URI=STORE,
    )
    assert said.split()[:2] == ["duration", "model_version"]
    assert 1 < float(said.split()[3]) < 60


def test_the_model_server_answers_as_sagemaker_and_vertex_ask(project):
    port = free_port()
    serve, curl = (lines(start).replace("5001", str(port)) for start in ("mlflow models serve", "curl"))
    environment = project.environment(MLFLOW_TRACKING_URI=STORE, PYTHONPATH="")
    server = subprocess.Popen(["sh", "-c", serve], cwd=project.path, env=environment, start_new_session=True)
    try:
        wait(lambda: answers_at(f"http://127.0.0.1:{port}/ping"), 120)
        answer = json.loads(shell(project, curl))["predictions"]
        assert 1 < answer[0]["duration"] < 60
        instances = json.dumps(
            {"instances": [{"PULocationID": 74, "DOLocationID": 166, "trip_distance": 2.6}]}
        ).encode()
        url, headers = f"http://127.0.0.1:{port}/invocations", {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, instances, headers), timeout=30) as response:
            assert json.load(response)["predictions"] == answer
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def test_a_deployment_to_sagemaker_brings_the_whole_model_to_s3_and_names_it_to_an_endpoint(project, s3):
    s3.create_bucket(Bucket="models")
    said = shell(project, lines("mlflow deployments create -t sagemaker"), MLFLOW_TRACKING_URI=STORE)
    assert "ride-duration is created" in said
    assert "'InService'" in shell(project, "mlflow deployments list -t sagemaker:/us-east-1")
    (sent,) = s3.list_objects_v2(Bucket="models")["Contents"]
    archive = io.BytesIO(s3.get_object(Bucket="models", Key=sent["Key"])["Body"].read())
    with tarfile.open(fileobj=archive) as model:
        names = model.getnames()
    needed = {"MLmodel", "requirements.txt", "data/model/model.onnx", "code/ride_duration/model/load.py"}
    assert needed <= {name.removeprefix("./") for name in names}
