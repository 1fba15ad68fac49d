"""A search for parameters that several processes share, one of which is killed: nothing that was tried is lost."""

import os
import re
import signal
import subprocess

import pytest
from conftest import NAMED, by_psycopg

pytestmark = pytest.mark.slow
TRIALS = 14


@pytest.fixture(params=["an SQLite file", "PostgreSQL"])
def storage(request):
    """The store of trials, as an environment variable."""
    if request.param == "PostgreSQL":
        return {"TUNE_STORAGE": by_psycopg(request.getfixturevalue("postgres"))}
    return {}


def worker(project, storage):
    """`make tune` in the background."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    words = project.make_command("tune", f"TRIALS={TRIALS}")
    return subprocess.Popen(words, cwd=project.path, env=project.environment(**storage), **pipes)


def test_two_workers_share_a_search_and_one_that_is_killed_costs_only_its_trial(bake, storage):
    project = bake(**NAMED).borrow_environment()
    settings = re.sub(r"sample_rows = \d+", "sample_rows = 3000", project.text("params.toml"))
    (project.path / "params.toml").write_text(settings, encoding="utf-8")
    killed, survivor = worker(project, storage), worker(project, storage)
    said = []
    while sum(line.startswith("trial ") for line in said) < 2:
        line = killed.stdout.readline()
        assert line, said
        said.append(line)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    rest = survivor.communicate(timeout=300)[0]
    assert survivor.returncode == 0, rest
    tried = [int(number) for number in re.findall(r"^trial (\d+) of", "".join(said) + rest, re.M)]
    assert len(tried) == len(set(tried)) >= TRIALS - 1
    assert "best rmse" in rest

    again = project.make("tune", f"TRIALS={TRIALS + 2}", "APPLY=1", **storage)
    assert again.returncode == 0, again.stderr
    assert int(re.search(r"continuing after (\d+) trials", again.stdout)[1]) >= TRIALS
    assert "+n_estimators = " in again.stdout
