"""The demo of level 4: the lines of `make story`, with real parts, and no failed request."""

import base64
import itertools
import os
import re

import pytest
from conftest import CHOICES, NAMED, ROOT

PAGE = """# The story of level 4

`make story` of a project of level 4 takes some minutes, and everything in it is real: a service with two workers under constant load, the registry,
the monitor, trainings, a roll-out by steps. One window stands for one day. [operation](operation.md) explains the rules behind each line.
`DOCS=1 make test-all ARGS="-k 'test_story and web-local and ride'"` generates this page.

```
{told}
```

The plot from `reports/story/monitor.html`: the metric in use with its 95 % interval, next to that of the validation rows, with versions and
decisions.

![the metric in use over the story's days, with promotions, trainings and rollbacks marked](story.png)
"""

TOLD = [
    "version 1 is trained",
    "nothing to do",
    "the data change",
    "ALARM ",
    "trained again ",
    r"challenger \d+ answers a share of 0.2",
    r"version \d+ is champion; it replaced version 1",
    r"champion \d+ is kept",
    "no new version: gate: ",
    "promoted by hand",
    r"version \d+ is champion again; version 1 was rolled back",
    "0 failed requests",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "deployment", "tracking"),
    [
        *itertools.product(["ride-duration"], CHOICES["deployment"], CHOICES["tracking"]),
        ("churn", "web", "local"),
    ],
)
def test_the_story_comes_to_its_end(bake, problem, deployment, tracking):
    answers = {"problem": problem, "deployment": deployment, "tracking": tracking, "maturity_level": "4"}
    project = bake(**NAMED, **answers).borrow_environment()
    done = project.make("story", timeout=900)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    in_order(done.stdout)
    before = done.stdout[: done.stdout.index("the data change")]
    assert "ALARM" not in before
    windows = re.findall(r"answers; (drift|quality)", done.stdout[done.stdout.index("the data change") :])
    assert len(windows) >= 2, "an alarm needs two windows"
    page = (project.path / "reports" / "story" / "monitor.html").read_text(encoding="utf-8")
    picture = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", page)
    assert picture
    assert not (project.path / "mlflow.db").exists(), "the story touches nothing of the project's own"
    store = {"local": "mlflow.db", "remote": "deploy/tracking-server/data/mlflow.db"}[tracking]
    assert (project.path / ".cache" / "story" / store).exists()
    if os.environ.get("DOCS") and (problem, deployment, tracking) == ("ride-duration", "web", "local"):
        told = [line for line in done.stdout.splitlines() if re.match(r" *\d+ s  ", line)]
        (ROOT / "docs" / "story.md").write_text(PAGE.format(told="\n".join(told)), encoding="utf-8")
        (ROOT / "docs" / "story.png").write_bytes(base64.b64decode(picture[1]))


def in_order(text):
    """Assert that all parts of the story are printed, in order."""
    found = [re.search(words, text) for words in TOLD]
    assert None not in found, f"{TOLD[found.index(None)]!r} was never told:\n{text}"
    places = [each.start() for each in found]
    assert places == sorted(places)


def test_the_page_tells_the_story():
    in_order((ROOT / "docs" / "story.md").read_text(encoding="utf-8"))
