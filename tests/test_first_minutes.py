"""Typical first mistakes: an old Python, steps in the wrong order, a folder that is moved."""

import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import urllib.request

import pytest
import yaml
from conftest import DEPLOYMENTS, NAMED, PYTHONS, ROOT, answers_at, free_port, service

OLD = """#!/bin/sh
case "$1" in -V) echo "Python 3.9.18" ;; *) exit 1 ;; esac
"""
"""A Python that is too old prints its version and fails the version check."""
PROMISED = f"{PYTHONS[0]} to {PYTHONS[-1]}"


def last_run(project):
    """Name and tags of the newest run in the project's own store."""
    with sqlite3.connect(project.path / "mlflow.db") as store:
        run, name = store.execute("SELECT run_uuid, name FROM runs ORDER BY start_time DESC").fetchone()
        return name, dict(store.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,)).fetchall())


@pytest.fixture
def old_python(tmp_path):
    path = tmp_path / "old" / "python3"
    path.parent.mkdir()
    path.write_text(OLD)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("target", ["setup", "train", "demo", "test"])
def test_a_python_that_is_too_old_is_named_and_one_that_will_do(bake, old_python, tmp_path, target):
    """The first two run in a project, the others in the template's folder."""
    project = bake(**NAMED)
    if target in ("demo", "test"):
        project.path = tmp_path / "template"
        project.path.mkdir()
        shutil.copy(ROOT / "Makefile", project.path)
    before = project.files()
    new = pathlib.Path(shutil.which("python3")).resolve()
    found = f"python{'.'.join(os.popen(f'{new} -V').read().split()[1].split('.')[:2])}"
    (old_python.parent / found).symlink_to(new)
    path = f"{old_python.parent}:/usr/bin:/bin"
    done = project.run("make", "--no-print-directory", target, PATH=path)
    assert done.returncode != 0
    first, second, *_ = done.stderr.splitlines()
    assert first == f"error: python3 is Python 3.9.18; needed is Python {PROMISED} with its venv module"
    verb = target if target in ("demo", "test") else "setup"
    assert re.fullmatch(rf"this machine has it: make {verb} PYTHON=python3\.1[1234]", second)
    assert project.files() == before
    assert not (project.path / ".pipenv").exists()


def test_the_pythons_that_are_promised_are_those_that_ci_tests(bake):
    project = bake()
    for text in (
        *(project.text(name) for name in ("README.md", "Makefile")),
        *((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile", "docs/ci.md")),
        (ROOT / "docs" / "course" / "level-0.md").read_text(encoding="utf-8"),
    ):
        assert set(re.findall(r"Python (3\.\d+ to 3\.\d+)", text)) == {PROMISED}
    for folder in (project.path, ROOT):
        jobs = yaml.safe_load((folder / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
        assert tuple(jobs["test"]["strategy"]["matrix"]["python"]) == PYTHONS
        looked_for = re.search(r"for each in (.*?);", (folder / "Makefile").read_text(encoding="utf-8"))[1]
        assert looked_for.split() == [f"python{version}" for version in reversed(PYTHONS)]


@pytest.mark.parametrize(
    "deployment", [pytest.param(deployment, marks=pytest.mark.slow) for deployment in ("web", "batch", "streaming")]
)
def test_where_no_version_is_registered_it_says_what_to_type(bake, trained, deployment):
    project = bake(**NAMED, deployment=deployment).borrow_environment()
    # `make train` leaves a model and a store without a registered version.
    shutil.copytree(trained, project.path / "model")
    assert project.make("registry").returncode == 0
    (project.path / "rides.csv").write_text("PULocationID,DOLocationID,trip_distance\n1,2,3\n")
    words = {
        "web": ["serve"],
        "batch": ["score", "INPUT=rides.csv", "OUTPUT=x.parquet"],
        "streaming": ["stream"],
    }
    done = project.make(*words[deployment], KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9")
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert "@champion is not registered" in line
    assert line.endswith("run `make pipeline`, or set MODEL_URI=model to use the last training")
    if deployment == "web":
        with service(project, MODEL_URI="model") as port:
            assert answers_at(f"http://127.0.0.1:{port}/readyz")
    if deployment == "batch":
        assert project.make(*words[deployment], MODEL_URI="model").returncode == 0


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_misspelt_setting_of_make_is_named(bake, deployment):
    project = bake(deployment=deployment, maturity_level="4")
    said = project.make("help", "DAT=x.csv", "data=x y.csv").stderr
    assert re.search(r"nothing in this Makefile reads (DAT data|data DAT)", said), said
    text = project.text("Makefile")
    known = set(re.findall(r"\$[({$]([A-Z_]+)[^A-Z_]", text)) - set(re.findall(r"^([A-Z_]+) :?=", text, re.MULTILINE))
    assert {"DATA", "ENV", "REASON", "YES"} <= known
    assert not project.make(
        "help", *(f"{name}=1" for name in sorted(known - {"MAKE", "MAKELEVEL", "MAKEFILE_LIST", "OS"}))
    ).stderr


@pytest.mark.slow
def test_a_run_says_what_it_is_and_a_moved_folder_keeps_its_runs(bake, tmp_path):
    project = bake(**NAMED).borrow_environment()
    assert project.make("pipeline").returncode == 0
    name, tags = last_run(project)
    assert name == "xgboost on generated sample"
    assert tags["mlflow.source.name"] == "python -m night_bus pipeline"
    assert tags["mlflow.note.content"].startswith("rmse ")
    assert "artifacts/model-card.html)" in tags["mlflow.note.content"]
    was = project.path
    project.path = project.path.rename(tmp_path / "café bus").resolve()
    shutil.rmtree(project.path / ".cache", ignore_errors=True)
    done = project.make("registry")
    assert str(was) in done.stderr
    assert "the project was moved from" in done.stderr
    assert "moved" not in project.make("registry").stderr
    with service(project) as port:
        version = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/version"))
    assert version["model_version"] == "1"
    assert project.make("train").returncode == 0
    assert not was.exists(), "the second training wrote to where the folder was"


@pytest.mark.slow
def test_the_pages_of_mlflow_are_one_process_of_under_500_mb(bake):
    project = bake(**NAMED, maturity_level="0").borrow_environment()
    assert project.make("train").returncode == 0
    port = free_port()
    up = f"http://127.0.0.1:{port}/health"
    with project.running("ui", f"UI_PORT={port}", until=lambda _: answers_at(up)) as process:
        known = subprocess.run(["ps", "-eo", "pgid,rss,args"], capture_output=True, text=True, check=True).stdout
        # make and its shell need little memory.
        own = [line.split(None, 2) for line in known.splitlines() if line.split()[0] == str(process.pid)]
        large = [int(kilobytes) for _, kilobytes, _ in own if int(kilobytes) > 20_000]
        assert len(large) == 1, own
        assert large[0] < 500_000
        body = json.dumps({"max_results": 5}).encode()
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search", body, {"Content-Type": "application/json"}
        )
        (experiment,) = [
            each
            for each in json.load(urllib.request.urlopen(asked))["experiments"]
            if each["name"].endswith("night-bus")
        ]
        assert {"key": "mlflow.experimentKind", "value": "custom_model_development"} in experiment["tags"]


@pytest.mark.slow
def test_a_repository_around_the_project_that_does_not_track_it_lends_it_no_commit(bake):
    project = bake(**NAMED, maturity_level="0").borrow_environment()
    identity = ["-c", "user.name=Ana", "-c", "user.email=ana@localhost"]
    around = ["git", "-C", str(project.path.parent), *identity]
    (project.path.parent / ".gitignore").write_text("*\n")
    subprocess.run([*around, "init", "-q"], check=True)
    subprocess.run([*around, "add", "-f", ".gitignore"], check=True)
    subprocess.run([*around, "commit", "-qm", "Around"], check=True)
    assert project.make("train").returncode == 0
    _, tags = last_run(project)
    assert tags["git_commit"] == "none"
    own = ["git", "-C", str(project.path), *identity]
    subprocess.run([*own, "init", "-q"], check=True)
    subprocess.run([*own, "add", "-A"], check=True)
    subprocess.run([*own, "commit", "-qm", "Ours"], check=True)
    assert project.make("train").returncode == 0
    _, tags = last_run(project)
    assert re.fullmatch("[0-9a-f]{40}", tags["git_commit"])
    assert tags["git_dirty"] == "false"


@pytest.mark.slow
def test_a_folder_with_its_own_packages_is_renamed_and_goes_on(bake, tmp_path):
    """Every command as a user types it, with a separate environment; the new name is not ASCII, the locale is."""
    project = bake(**NAMED, maturity_level="1")
    project.environment = lambda **more: {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MAKE", "PYTHON"))},
        "LC_ALL": "C",
        **more,
    }
    assert project.run("make", "train", timeout=600).returncode == 0
    project.path = project.path.rename(tmp_path / "père bus").resolve()
    for target in (["train"], ["add", "PACKAGE=humanize"], ["setup"], ["lint"]):
        done = project.run("make", *target, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "humanize" in project.text("Pipfile")


@pytest.mark.slow
def test_the_first_screen_of_the_readme_needs_python_git_and_make_only(tmp_path):
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S)[1]
    install, ask, *rest = block.splitlines()
    assert rest == ["cd ride-duration", "make setup pipeline serve"], "what `make demo` types too"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL", "MAKE"))}
    questions = [
        name for name in json.loads((ROOT / "cookiecutter.json").read_text("utf-8")) if not name.startswith("_")
    ]
    script = f"set -e\n{install}\n{ask.replace('gh:org/mlops-template', str(ROOT))}\n"
    done = subprocess.run(
        ["sh", "-c", script],
        input="\n" * len(questions),
        cwd=tmp_path,
        env=kept | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "  make pipeline" in done.stdout.splitlines()
    assert (tmp_path / "ride-duration" / "Pipfile.lock").is_file()
