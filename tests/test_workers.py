"""One to four stream workers on a topic of eight partitions: they come, go and die under load, and no event is lost."""

import contextlib
import os
import signal
import time

import in_use
import pytest
from conftest import NAMED, wait
from test_in_use import edit

pytestmark = pytest.mark.slow


def test_workers_that_come_go_and_die_lose_no_event(bake):
    project = bake(**NAMED, deployment="streaming", maturity_level="3").borrow_environment()
    edit(project, r"^partitions = \d+", "partitions = 8")
    edit(project, r"^n_estimators = \d+", "n_estimators = 20")
    assert project.make("pipeline").returncode == 0
    with in_use.Streaming(project, {}).around() as use, contextlib.ExitStack() as held:
        first = held.enter_context(use.running())
        with use.asked():
            wait(lambda: len(use.answers) > 100, 30)
            others = [held.enter_context(use.running()) for _ in range(3)]
            share_the_events(project, use, 4)
            os.killpg(others[0].pid, signal.SIGKILL)
            os.killpg(first.pid, signal.SIGTERM)
            share_the_events(project, use, 2)
        wait(lambda: use.sent <= set(use.answers), 120)
        assert use.failed == []
    done = project.make("predictions", "OUTPUT=all.parquet")
    assert done.returncode == 0, done.stderr
    logged = in_use.rows(project, "all.parquet")
    assert {row["ride_id"] for row in logged} == use.sent
    assert len({row["prediction_id"] for row in logged}) == len(logged) == len(use.sent)


def share_the_events(project, use, workers):
    """Wait until so many workers log what they answer, and 500 further events are answered."""
    log = project.path / "predictions"

    def at_work():
        return sum(time.time() - path.stat().st_mtime < 1.5 for path in log.glob("*.jsonl")) == workers

    wait(at_work, 60)
    answered = len(use.answers)
    wait(lambda: len(use.answers) > answered + 500, 60)
