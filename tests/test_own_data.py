"""From a data file with common defects to an HTTP prediction: the commands of `docs/your-problem.md`."""

import datetime
import json
import math
import os
import random
import re
import shlex
import subprocess
import sys

import pytest
from conftest import NAMED, ROOT, service
from test_projects import post

PAGE = ROOT / "docs" / "your-problem.md"


def bicycles(path, rows=6_000):
    """A typical CSV file of hours: ids, constants, remarks, units in names, missing values, two date formats."""
    rng = random.Random(0)
    lines = ["instant;day;hour;Holiday?;weather;Temp (°C);hum %;station;note;updated;casual;registered;count"]
    for i in range(rows):
        time = datetime.datetime(2011, 1, 1) + datetime.timedelta(hours=i)
        hour = time.hour
        warmth = 15 + 10 * math.sin(i / rows * 6) + 4 * math.sin((hour - 8) / 24 * 6.28) + rng.gauss(0, 2)
        weather = rng.choices(["clear", "mist", "light rain"], [0.65, 0.25, 0.1])[0]
        few = 0.6 if weather == "light rain" else 0
        expected = math.exp(2.5 + 1.2 * math.sin((hour - 6) / 24 * 6.28) + 0.05 * warmth - few)
        guests, members = (max(round(rng.gauss(mean, mean**0.5)), 0) for mean in (expected / 5, expected))
        degrees = "NA" if rng.random() < 0.01 else f"{warmth:.1f}".replace(".", ",")
        humidity = "" if rng.random() < 0.02 else f"{rng.uniform(20, 100):.1f}".replace(".", ",")
        note = f"looked after by number {i * 7919 % 997} of the crew" if i % 50 else '"all ""fine"";\nnobody came"'
        holiday = "no" if i % 31 else "yes"
        lines.append(
            f"{i + 1};{time:%d/%m/%Y};{hour};{holiday};{weather};{degrees};{humidity};central;{note};{time:%Y-%m-%d} 23:59;"
            f"{guests};{members};{guests + members}"
        )
    path.write_text("\n".join(lines), encoding="utf-8")


def steps():
    """The commands and edits of the page, in order."""
    for kind, block in re.findall(r"```(sh|diff)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S):
        if kind == "diff":
            yield block.replace("my_model", "night_bus")
        else:
            yield from (shlex.split(line, comments=True)[1:] for line in block.splitlines())


def edit(project, block):
    """Apply a `diff` block of the page to the file in its first line: replace a text, or append to it."""
    name, *lines = block.splitlines()
    path = project.path / name.lstrip("# ")
    text = path.read_text(encoding="utf-8")
    removed, added = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
    assert text.count(removed) == 1 or not removed
    path.write_text(text.replace(removed, added) if removed else f"{text}{added}\n", encoding="utf-8")


def remove_a_field(project, name):
    path = project.path / "src" / "night_bus" / "problem.py"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"    {name}:")]
    assert len(kept) == len(lines) - 1
    path.write_text("".join(kept), encoding="utf-8")


@pytest.mark.slow
def test_from_a_file_to_an_answer_over_http_by_the_page_alone(bake):
    project = bake(**NAMED, problem="own").borrow_environment()
    bicycles(project.path / "hours.csv")
    typed, said = [], {}
    for step in steps():
        if isinstance(step, str):
            edit(project, step)
            if "test_a_day_has_24_hours" in step:
                done = project.run(".venv/bin/python", "-m", "pytest", "-q", "tests/code/test_problem.py")
                assert "DID NOT RAISE" in done.stdout
            continue
        typed.append(step[0])
        if step == ["test"]:  # whole in the slow test below
            done = project.run(
                ".venv/bin/python", "-m", "pytest", "-q", "tests/code/test_problem.py", "tests/data/test_sample.py"
            )
        elif step[0] not in ("serve", "predict"):
            done = project.make(*step)
        assert done.returncode == 0, f"{step}: {done.stdout}{done.stderr}"
        said.setdefault(step[0], done.stdout)
    assert typed[0] == "setup"
    assert {"problem", "check-problem", "pipeline", "serve", "predict", "test", "lint"} <= set(typed)
    page = PAGE.read_text(encoding="utf-8").replace("my_model", "night_bus")
    for line in said["problem"].splitlines():
        assert re.sub(r"[\d,-]+ values|before-[\d-]+", "", line) in re.sub(r"[\d,-]+ values|before-[\d-]+", "", page)
    example = "import json; from night_bus import problem; print(json.dumps(problem.EXAMPLE))"
    record = json.loads(project.run(".venv/bin/python", "-c", example).stdout)
    assert set(record) == {"day", "hour", "holiday", "weather", "temp_c", "hum"}
    with service(project) as port:
        noon, night = (post(port, {**record, "hour": hour})["predicted_count"] for hour in (12, 0))
    assert noon > 2 * night > 0


@pytest.mark.slow
@pytest.mark.parametrize("removed", ["", "weather", "hour"])
def test_tests_and_linters_are_green_after_a_draft_and_after_a_field_is_removed(bake, removed):
    project = bake(**NAMED, problem="own" if removed else "ride-duration").borrow_environment()
    bicycles(project.path / "hours.csv")
    assert project.make("problem", "FROM=hours.csv", "TARGET=count").returncode == 0
    if removed:
        remove_a_field(project, removed)
    for target in ("lint", "test"):
        done = project.make(target, timeout=900)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_at_a_terminal_it_asks_and_a_person_may_say_no(bake):
    import pty

    project = bake(**NAMED, problem="own", maturity_level="0").borrow_environment()
    bicycles(project.path / "hours.csv", 500)
    ours, theirs = pty.openpty()
    command = project.make_command("problem", "FROM=hours.csv", "TARGET=count")
    with subprocess.Popen(
        command, cwd=project.path, env=project.environment(), stdin=theirs, stdout=subprocess.PIPE, text=True
    ) as process:
        os.write(ours, b"\nwhat\nn\n\n\n\n\n")
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert "instant looks like the identifier of a row. Is it? [Y/n]" in said
    assert "answer y or n" in said
    assert "kept: station (always central)" in said
    assert "    station: " in project.text("src/night_bus/problem.py")


def test_a_draft_that_is_broken_off_changes_nothing(bake):
    import pty

    project = bake(**NAMED, problem="own", maturity_level="0").borrow_environment()
    bicycles(project.path / "hours.csv", 500)
    before = project.text("src/night_bus/problem.py")
    ours, theirs = pty.openpty()
    command = project.make_command("problem", "FROM=hours.csv", "TARGET=count")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=project.path, env=project.environment(), stdin=theirs, **pipes) as process:
        os.write(ours, b"\n\x04")
        error = process.communicate(timeout=60)[1]
    assert "stopped; nothing was written" in error
    assert project.text("src/night_bus/problem.py") == before
