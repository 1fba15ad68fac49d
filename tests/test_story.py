"""Five minutes at level 4: what `make story` tells, with real parts, and no request that fails."""

import re

import pytest
from conftest import NAMED

TOLD = [
    "version 1 is trained",
    "nothing to do",
    "the world changes",
    "ALARM ",
    "trained again ",
    r"challenger \d+ answers a share of 0.2",
    r"version \d+ is champion; it replaced version 1",
    r"champion \d+ is kept",
    "no new version: gate: ",
    "forced in by hand",
    r"version \d+ is champion again; version 1 was rolled back",
    "0 failed requests",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "deployment", "tracking"),
    [
        ("ride-duration", "web", "local"),
        ("ride-duration", "batch", "remote"),
        ("ride-duration", "streaming", "local"),
        ("churn", "web", "remote"),
    ],
)
def test_the_story_comes_to_its_end(bake, problem, deployment, tracking):
    answers = {"problem": problem, "deployment": deployment, "tracking": tracking, "maturity_level": "4"}
    project = bake(**NAMED, **answers).borrow_environment()
    done = project.make("story", timeout=900)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    found = [re.search(words, done.stdout) for words in TOLD]
    assert None not in found, f"{TOLD[found.index(None)]!r} was never told:\n{done.stdout}"
    places = [each.start() for each in found]
    assert places == sorted(places)
    before = done.stdout[: done.stdout.index("the world changes")]
    assert "ALARM" not in before
    windows = re.findall(r"answers; (drift|quality)", done.stdout[done.stdout.index("the world changes") :])
    assert len(windows) >= 2, "an alarm needs two windows"
    assert "data:image/png" in (project.path / "reports" / "story" / "monitor.html").read_text(encoding="utf-8")
    assert not (project.path / "mlflow.db").exists(), "the story touches nothing of the project's own"
