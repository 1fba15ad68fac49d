"""`make maturity` on a project in which the story of level 4 was run, and on copies of it that each lack one thing."""

import contextlib
import json
import os
import re
import shutil
import sqlite3

import pytest
import yaml
from conftest import DEPLOYMENTS, NAMED, Project

SLOW = ("tested", "noticed", "repeated")
"""Practices whose check takes minutes: they are checked again only if something that they need was removed."""


def graded(project, wanted=()):
    """Name of a practice -> its verdict and evidence, and the level."""
    # A lock that was tampered with is no reason to install its packages.
    os.utime(project.path / ".venv" / ".ready")
    done = project.make("maturity", "JSON=1", f"PRACTICE={','.join(wanted)}", timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    return {each["name"]: (each["verdict"], each["evidence"]) for each in said["practices"]}, said["level"]


@pytest.mark.parametrize(
    ("deployment", "ci"),
    [
        ("web", "github"),
        ("batch", "gitlab"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("web", "gitlab"), ("streaming", "github"))),
    ],
)
@pytest.mark.parametrize(
    ("level", "there"),
    [
        ("0", {"locked"}),
        ("1", {"locked", "checked", "image"}),
        ("2", {"locked", "checked", "image", "trained"}),
        ("3", {"locked", "checked", "image", "trained", "deployed"}),
        ("4", {"locked", "checked", "image", "trained", "deployed"}),
    ],
)
def test_what_a_fresh_project_brings_is_seen_in_its_files(bake, deployment, ci, level, there):
    project = bake(**NAMED, deployment=deployment, maturity_level=level, ci=ci).borrow_environment()
    found, _ = graded(project, ["locked", "checked", "image", "trained", "deployed"])
    assert {name for name, (verdict, _) in found.items() if verdict == "yes"} == there, found


def lived(bake, deployment):
    """The copy of a project in which its story ran: days of traffic, a retraining, a roll-out, a rollback."""
    made = bake(**NAMED, deployment=deployment, maturity_level="4").borrow_environment()
    done = made.make("story", timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return Project(made.path / ".cache" / "story").borrow_environment()


def edit(name, pattern, new):
    def done(project):
        path = project.path / name
        text = path.read_text(encoding="utf-8")
        changed = re.sub(pattern, new, text, flags=re.M)
        assert changed != text, f"nothing of {name} is like {pattern}"
        path.write_text(changed, encoding="utf-8")

    return done


def remove(*names):
    def done(project):
        for name in names:
            path = project.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return done


def query(*statements):
    def done(project):
        with contextlib.closing(sqlite3.connect(project.path / "mlflow.db")) as store, store:
            for statement in statements:
                assert store.execute(statement).rowcount, f"{statement} changed nothing"

    return done


def workflow(name, change):
    """Edit a workflow as YAML: `change` gets its content."""

    def done(project):
        path = project.path / ".github" / "workflows" / name
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    return done


def no_assertions(project):
    shutil.rmtree(project.path / "tests")
    (project.path / "tests").mkdir()
    text = "from night_bus import problem\n\n\ndef test_it():\n    problem.features\n    problem.sample\n    problem.target\n"
    (project.path / "tests" / "test_it.py").write_text(text)


def another_version(project):
    """Change the log so that its last answer names a version that never was champion."""
    logs = [path for path in (project.path / "predictions").glob("*.jsonl") if '"role":"champion"' in path.read_text()]
    last = max(logs, key=lambda path: path.stat().st_mtime)
    lines = last.read_text().splitlines()
    place = max(number for number, line in enumerate(lines) if '"role":"champion"' in line)
    lines[place] = re.sub(r'"model_version":"\d+"', '"model_version":"77"', lines[place])
    last.write_text("\n".join(lines) + "\n")
    for other in set((project.path / "predictions").glob("*.jsonl")) - {last}:
        other.unlink()


def notes(*actions):
    wanted = " OR ".join(f'value LIKE \'%"action": "{action}"%\'' for action in actions)
    return query(f"DELETE FROM registered_model_tags WHERE {wanted}")


CHAMPION = (
    "(SELECT v.run_id FROM model_versions v JOIN registered_model_aliases a ON a.version = v.version AND a.name = v.name"
    " WHERE a.alias = 'champion')"
)

TAKEN = {
    "the tests are deleted": (remove("tests"), {"tested", "noticed"}),
    "the tests assert nothing": (no_assertions, {"noticed"}),
    "a test fails": (edit("src/night_bus/problem.py", r"hours % 24", "hours % 12"), {"tested", "noticed"}),
    "the list of packages is edited by hand": (edit("Pipfile", r'^pandas = "\*"', 'pandas = "<3"'), {"locked"}),
    "the lock has no hashes": (edit("Pipfile.lock", r'"hashes": \[[^\]]*\]', '"hashes": []'), {"locked"}),
    "CI runs no tests": (edit(".github/workflows/ci.yml", r"^.*run: make test\n", ""), {"checked"}),
    "CI's job is switched off": (workflow("ci.yml", lambda it: it["jobs"]["test"].update({"if": False})), {"checked"}),
    "CI endures failures": (edit(".github/workflows/ci.yml", "make test", "make test || true"), {"checked"}),
    "CI runs when it is asked": (workflow("ci.yml", lambda it: it.update({True: "workflow_dispatch"})), {"checked"}),
    "make test does nothing": (edit("Makefile", r"^\t.*-m pytest.*$", "\t@true"), {"checked"}),
    "the image takes what is newest": (
        edit("Dockerfile", r"^RUN .*pipenv sync.*$", "RUN pip install flask onnxruntime"),
        {"image"},
    ),
    "the image runs as root": (edit("Dockerfile", r"^USER 10001", "USER root"), {"image"}),
    "the image's base may change": (edit("Dockerfile", r"@sha256:[0-9a-f]+", ""), {"image"}),
    "the models are deleted": (remove("mlartifacts"), {"tracked"}),
    "the version's commit is unknown": (
        query(f"UPDATE tags SET value = '{'0' * 40}' WHERE key = 'git_commit' AND run_uuid = {CHAMPION}"),
        {"traced", "repeated"},
    ),
    "the version was trained from uncommitted files": (
        query(f"UPDATE tags SET value = 'true' WHERE key = 'git_dirty' AND run_uuid = {CHAMPION}"),
        {"traced", "repeated"},
    ),
    "a metric was made better": (
        query(f"UPDATE latest_metrics SET value = value / 2 WHERE key = 'rmse' AND run_uuid = {CHAMPION}"),
        {"repeated"},
    ),
    "the data are replaced": (lambda project: other_rows(project), {"named"}),
    "nothing trains by itself": (
        workflow("train.yml", lambda it: it.update({True: {"push": {"branches": ["old"]}}})),
        {"trained"},
    ),
    "the gate is switched off": (edit("params.toml", r"^margin = .*", "margin = 0.9"), {"refused"}),
    "the gate's code is changed": (
        edit("src/night_bus/pipeline/verdict.py", r"\Z", "\n# whatever\n"),
        {"refused"},
    ),
    "the refusal is forgotten": (query("DELETE FROM tags WHERE key = 'verdict' AND value = 'worse'"), {"refused"}),
    "the log of predictions is deleted": (remove("predictions"), {"answered", "served", "came_true"}),
    "another version answered": (another_version, {"served"}),
    "no truth is known": (remove("truth"), {"came_true"}),
    "no rollback was made": (notes("rollback"), {"taken_back"}),
    "nothing deploys": (
        workflow("deploy.yml", lambda it: [job.pop("environment", None) for job in it["jobs"].values()]),
        {"deployed"},
    ),
    "no monitor looked": (query("DELETE FROM tags WHERE key = 'causes'"), {"watched"}),
    "no alarm led anywhere": (notes("retrain"), {"acted"}),
    "no roll-out by steps": (notes("rollout"), {"by_steps"}),
    "no champion was watched": (notes("keep", "rollback"), {"taken_back", "minded"}),
}


def other_rows(project):
    for path in (project.path / "data").glob("retrain-*.parquet"):
        path.write_bytes(path.read_bytes() + b"0")


@contextlib.contextmanager
def put_back(project, kept):
    """Whatever happens to the project's files, they are the old ones afterwards."""
    shutil.copytree(project.path, kept, symlinks=True)
    yield
    shutil.rmtree(project.path)
    kept.rename(project.path)


@pytest.mark.slow
@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_project_that_has_lived_has_every_practice_and_what_is_taken_from_it_is_missed(bake, tmp_path, deployment):
    """After the story each practice is found; then one thing is removed at a time, and only its practices fail. (Mostly with web.)"""
    project = lived(bake, deployment)
    found, level = graded(project)
    assert {name: each for name, each in found.items() if each[0] != "yes"} == {}
    assert level == 4
    wrong = {}
    for taken, (tamper, lost) in TAKEN.items() if deployment == "web" else ():
        with put_back(project, tmp_path / "kept"):
            tamper(project)
            after, _ = graded(project, [name for name in found if name not in SLOW or name in lost])
        missed = {name for name, (verdict, _) in after.items() if verdict != "yes"}
        if missed != lost:
            wrong[taken] = {name: after[name] for name in missed ^ lost}
    assert wrong == {}
