"""A registered version is trained again from its commit, its lock and its data, with the same digits in each metric."""

import json
import shutil
import subprocess

import pytest
from conftest import NAMED

pytestmark = pytest.mark.slow


@pytest.fixture
def project(bake):
    """A project in git, with a champion that was trained on a local file, and three later commits."""
    project = bake(**NAMED).borrow_environment()
    git(project, "init", "-q", "-b", "main")
    done = project.make("data")
    assert done.returncode == 0, done.stderr
    (project.path / "data" / "sample.parquet").rename(project.path / "data" / "rows.parquet")
    assert project.make("data", "KEEP=data/rows.parquet").returncode == 0
    commit(project, "The project and its data")
    done = project.make("pipeline", "DATA=data/rows.parquet")
    assert done.returncode == 0, done.stderr
    for before, now in (("0.12", "0.13"), ("0.13", "0.14"), ("0.14", "0.15")):
        edit(project, "params.toml", f"learning_rate = {before}", f"learning_rate = {now}")
        commit(project, f"Learn by {now}")
    return project


def git(project, *words):
    identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com")
    done = subprocess.run(["git", *identity, *words], cwd=project.path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(project, message):
    git(project, "add", "-A")
    git(project, "commit", "-q", "--no-verify", "-m", message)


def edit(project, name, old, new):
    text = project.text(name)
    (project.path / name).write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_version_from_three_commits_ago_is_made_again_and_what_is_gone_is_told(project):
    # The data file is deleted; the cache has it by its digest.
    (project.path / "data" / "rows.parquet").unlink()
    done = project.make("reproduce", "VERSION=1")
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert any("data/rows.parquet comes from the cache" in line for line in told)
    assert sum(line.endswith("the same") for line in told) >= 6
    assert "to the last digit" in told[-1]
    assert git(project, "worktree", "list").count("\n") == 1
    assert git(project, "status", "--porcelain") == ""

    for content in (project.path / ".cache" / "data").iterdir():
        content.unlink()
    done = project.make("reproduce", "VERSION=1")
    assert done.returncode != 0
    assert "set DATA_STORE" in done.stderr
    assert git(project, "worktree", "list").count("\n") == 1


def test_a_version_of_another_lock_is_made_again_with_the_packages_of_its_own(project):
    lock = project.path / "Pipfile.lock"
    lock.write_text(json.dumps(json.loads(lock.read_text()), indent=2) + "\n")
    commit(project, "Another lock")
    done = project.make("reproduce", "VERSION=1", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installing the packages of its lock" in done.stdout
    assert sum(line.endswith("the same") for line in done.stdout.splitlines()) >= 6


def test_a_version_that_was_trained_from_uncommitted_files_is_refused(project):
    edit(project, "params.toml", "learning_rate", "# a thought\nlearning_rate")
    assert project.make("data").returncode == 0
    assert project.make("pipeline", "DATA=data/rows.parquet").returncode == 0
    done = project.make("reproduce", "VERSION=2")
    assert done.returncode != 0
    assert "not committed" in done.stderr


def test_data_come_back_from_a_store_that_speaks_s3(bake, s3):
    project = bake(**NAMED).borrow_environment()
    store = {"DATA_STORE": "s3://rides/data"}
    assert project.make("data").returncode == 0
    path = (project.path / "data" / "sample.parquet").rename(project.path / "data" / "rows.parquet")
    content = path.read_bytes()
    done = project.make("data", "KEEP=data/rows.parquet", **store)
    assert done.returncode == 0, done.stderr
    assert s3.list_objects_v2(Bucket="rides", Prefix="data/")["KeyCount"] >= 1
    path.unlink()
    shutil.rmtree(project.path / ".cache" / "data")
    done = project.make("data", **store)
    assert done.returncode == 0, done.stderr
    assert "was restored from s3://rides/data" in done.stdout
    assert path.read_bytes() == content
