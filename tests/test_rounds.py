"""Rounds of operation that are killed at any write, and many rounds in a row: the result is the same, and nothing is left over."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import NAMED

ROUNDS = str(Path(__file__).with_name("rounds.py"))
FAST = {
    r"sample_rows = .*": "sample_rows = 3000",
    r"n_estimators = .*": "n_estimators = 4",
    r"hold = .*": 'hold = "0s"',
    r"min_answers = .*": "min_answers = 20",
    r"watch = .*": 'watch = "0s"',
    r"steps = .*": "steps = [0.5, 1.0]",
}


@pytest.fixture
def project(bake):
    """A project at level 4 with a champion, and settings with short times by which the next training is better."""
    project = bake(**NAMED, maturity_level="4").borrow_environment()
    settings = project.path / "params.toml"
    for pattern, value in FAST.items():
        settings.write_text(re.sub(rf"^{pattern}", value, settings.read_text(), flags=re.M))
    shutil.rmtree(project.path / "tests" / "model")  # they take seconds in each life, and write nothing
    assert project.run(".venv/bin/python", "-m", "night_bus", "pipeline").returncode == 0
    settings.write_text(settings.read_text().replace("n_estimators = 4", "n_estimators = 60"))
    return project


@pytest.mark.slow
def test_a_life_that_is_killed_at_any_write_ends_as_one_that_is_left_alone(project, tmp_path):
    done = project.run(".venv/bin/python", ROUNDS, "killed", str(tmp_path), timeout=2400)
    told = re.findall(r"^(?:expected|killed|WRONG|    version).*", done.stdout, re.M)
    assert done.returncode == 0, "\n".join(told) + done.stderr
    assert int(re.search(r"^(\d+) lives, 0 ended otherwise", done.stdout, re.M)[1]) >= 30


@pytest.mark.slow
def test_many_rounds_grow_no_memory_open_files_or_threads(project):
    done = project.run(".venv/bin/python", ROUNDS, "many", timeout=600)
    assert done.returncode == 0, done.stderr
    grown = re.search(r"grown by (-?\d+) MB, (-?\d+) open files, (-?\d+) threads, ([\d.]+) files a round", done.stdout)
    memory, files, threads, kept = map(float, grown.groups())
    assert (memory < 10, files, threads) == (True, 0, 0), grown[0]
    assert kept <= 1, "a look keeps one file, and the service its log"
