"""A project is updated with cruft: to a newer release and to a higher level, keeping the owner's edits."""

import json
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT, git


def cruft(folder, *words):
    return subprocess.run([sys.executable, "-m", "cruft", *words], cwd=folder, capture_output=True, text=True)


def baked(template, folder, level):
    """A project of a level that bare cookiecutter made, with its owner's edits committed."""
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config", str(template)]
    subprocess.run([*command, f"maturity_level={level}"], cwd=folder, check=True, capture_output=True)
    made = folder / "ride-duration"
    git(made, "init", "-q", "-b", "main")
    for name, (old, new) in EDITS.items():
        edit(made / name, old, new)
    git(made, "add", "-A")
    git(made, "commit", "-qm", "Ours")
    return made


@pytest.fixture
def project(template, tmp_path):
    return baked(template, tmp_path, "1")


EDITS = {
    "params.toml": ("n_estimators = 80", "n_estimators = 90"),
    "README.md": ("## HTTP\n", "Ask Zoë before you deploy.\n\n## HTTP\n"),
    "src/ride_duration/problem.py": ('TITLE = "How long', 'TITLE = "Owner asks: how long'),
    "src/ride_duration/serving/app.py": ('"PONG"', '"PONG of ours"'),
}
"""The owner's edits, one of them in a file of the frame: name -> text before and after."""


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def release(template, name, old, new):
    """A newer release in which one line of one file is different."""
    edit(template / "cookiecutter.json", '"_version": "0.1.0"', '"_version": "0.2.0"')
    edit(template / "{{cookiecutter.project_slug}}" / name, old, new)
    git(template, "commit", "-qam", "Next release")
    git(template, "tag", "v0.2.0")


def owned(project):
    """Whether all of the owner's edits are still there."""
    return all(new in (project / name).read_text() for name, (_, new) in EDITS.items())


def rejects(project):
    return list(pathlib.Path(project).rglob("*.rej"))


def test_a_fresh_project_is_up_to_date_and_hears_of_a_newer_release(template, project):
    assert cruft(project, "check", "--not-strict").returncode == 0
    release(template, "gunicorn.conf.py", "timeout = 30", "timeout = 31")
    assert cruft(project, "check", "--not-strict").returncode == 1


def test_a_newer_release_arrives_and_the_owner_s_edits_stay(template, project):
    release(template, "gunicorn.conf.py", "timeout = 30", "timeout = 31")
    done = cruft(project, "update", "-y")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "make setup" not in done.stdout
    assert "timeout = 31" in (project / "gunicorn.conf.py").read_text()
    assert owned(project)
    assert rejects(project) == []
    assert cruft(project, "check", "--not-strict").returncode == 0


def test_the_ladder_is_climbed_step_by_step_and_runs_move_to_a_server(template, tmp_path):
    project = baked(template, tmp_path, "0")
    steps = [
        ({"maturity_level": "1"}, "tests/code/test_web.py"),
        ({"maturity_level": "2"}, "src/ride_duration/registry/versions.py"),
        ({"tracking": "remote"}, "src/ride_duration/tracking/outbox.py"),
    ]
    for answers, arrived in steps:
        assert not (project / arrived).exists()
        done = cruft(project, "update", "-y", "--variables-to-update", json.dumps(answers))
        assert done.returncode == 0, done.stdout + done.stderr
        assert (project / arrived).exists()
        assert owned(project)
        assert rejects(project) == []
        assert "<<<<<<<" not in "".join((project / name).read_text() for name in EDITS)
        context = json.loads((project / ".cruft.json").read_text())["context"]["cookiecutter"]
        assert answers.items() <= context.items()
        git(project, "add", "-A")
        git(project, "commit", "-qm", "A step")
    # After the updates the files are those of a fresh project with these answers.
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config", "-o", str(tmp_path / "fresh")]
    subprocess.run([*command, str(template), "maturity_level=2", "tracking=remote"], check=True, capture_output=True)
    fresh = tmp_path / "fresh" / "ride-duration"
    for path in sorted(path for path in fresh.rglob("*") if path.is_file()):
        name = path.relative_to(fresh).as_posix()
        text = (project / name).read_text()
        for old, new in [EDITS[name]] if name in EDITS else []:
            text = text.replace(new, old)
        assert text == path.read_text() or name == ".cruft.json", name


def test_a_conflict_is_plain_to_see(template, project):
    release(template, "params.toml", "n_estimators = 80", "n_estimators = 400")
    cruft(project, "update", "-y")
    text = (project / "params.toml").read_text()
    assert "n_estimators = 90" in text
    assert "<<<<<<<" in text or rejects(project), "the owner is not told that both changed the same line"


@pytest.mark.parametrize(
    ("given", "written"),
    [("gh:org/mlops-template", "https://github.com/org/mlops-template"), ("gl:org/t", "https://gitlab.com/org/t")],
)
def test_an_abbreviated_address_is_spelled_out(given, written):
    from cookiecutter.utils import create_env_with_context

    source = (ROOT / "{{cookiecutter.project_slug}}" / ".cruft.json").read_text()
    questions = json.loads((ROOT / "cookiecutter.json").read_text())
    answers = {name: value for name, value in questions.items() if name != "__prompts__"} | {"_template": given}
    rendered = create_env_with_context({"cookiecutter": answers}).from_string(source).render(cookiecutter=answers)
    assert json.loads(rendered)["template"] == written
