"""The grader looks at what is there, and tries it: in small projects that have a practice, or only look as if they had it."""

import json
import sys
import textwrap

import pytest

from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.tools.maturity import command, engineering, models, operation, workflows
from {{ cookiecutter.__package }}.tools.maturity.project import Found, Project

MAKEFILE = "test:\n\tpython -m pytest\n"
GITHUB = """
on: {events}
jobs:
  test:
    runs-on: ubuntu-24.04
    steps:
      - run: {line}
"""
GITLAB = """
test:
  script:
    - make test
"""
CODE = """
def discount(price, rate):
    return price - price * rate
"""
USES = """
from data.shop import discount

def test_a_discount():
    {}
"""
IMAGE = """
FROM python:3.13@sha256:0
COPY Pipfile Pipfile.lock ./
RUN pip install pipenv && \\
    pipenv sync
USER 1000
"""


@pytest.fixture
def other(tmp_path):
    """Writes a project of some files."""

    def written(**files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        return Project(tmp_path)

    return written


@pytest.mark.parametrize(
    ("events", "line", "verdict"),
    [
        ("[push, pull_request]", "make test", "yes"),
        ("push", "pip install . && python -m pytest -q", "yes"),
        ("[workflow_dispatch]", "make test", "no"),
        ("[push]", "make test || true", "no"),
        ("[push]", "echo make test", "no"),
        ("[push]", "make lint", "no"),
        ("[push]", '"true  # make test"', "no"),
        ("[push]", "make lint test", "yes"),
        ("[push]", "PYTHONPATH=src .venv/bin/python -m pytest", "yes"),
        ("[push]", "pytest --collect-only", "no"),
        ("[push]", "pytest | tee log", "no"),
        ("\n  push:\n    tags: [v1]", "pytest", "no"),
        ("\n  push:\n    branches: [main]", "pytest", "yes"),
    ],
)
def test_ci_counts_where_a_failing_test_fails_it(other, events, line, verdict):
    project = other(Makefile=MAKEFILE, **{".github/workflows/ci.yml": GITHUB.format(events=events, line=line)})
    assert engineering.checked(project).verdict == verdict


@pytest.mark.parametrize("off", ["if: false", "continue-on-error: true", "if: 'FALSE'"])
def test_a_job_that_is_switched_off_runs_nothing(other, off):
    ci = GITHUB.format(events="push", line="make test").replace("runs-on", f"{off}\n    runs-on")
    assert list(workflows.steps(other(**{".github/workflows/ci.yml": ci}))) == []


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ("", "yes"),
        ("  allow_failure: true", "no"),
        ("  when: manual", "no"),
        ("  rules: [{when: never}]", "no"),
        ("  rules: [{if: $CI_PIPELINE_SOURCE == 'merge_request_event'}]", "yes"),
        ("  rules: [{if: $CI_PIPELINE_SOURCE == 'schedule'}]", "no"),
    ],
)
def test_gitlab_s_jobs_count_too(other, more, verdict):
    project = other(Makefile=MAKEFILE, **{".gitlab-ci.yml": f"{GITLAB}{more}\n"})
    assert engineering.checked(project).verdict == verdict


def test_gitlab_s_jobs_are_found_in_the_files_that_are_included_and_have_what_they_extend(other):
    project = other(
        **{
            ".gitlab-ci.yml": "include: [{local: /ci/*.yml}, https://example.org/x.yml]",
            "ci/deploy.yml": """
                .deploy:
                  rules:
                    - if: $CI_PIPELINE_SOURCE =~ /^(schedule|web)$/
                live:
                  extends: .deploy
                  environment: live
                  script: make deploy
            """,
        }
    )
    (step,) = workflows.steps(project)
    assert (step.file, step.job, step.environment) == ("ci/deploy.yml", "live", "live")
    assert step.events == {"schedule", "workflow_dispatch"}


@pytest.mark.parametrize(
    ("test", "verdict"), [("assert discount(10, 0.5) == 5", "yes"), ("assert discount is not None", "no")]
)
def test_tests_that_notice_no_mistake_are_found_out(other, test, verdict):
    project = other(**{"src/data/shop.py": CODE, "tests/test_shop.py": USES.format(test)})
    assert engineering.tested(project).verdict == "yes"
    assert engineering.noticed(project).verdict == verdict
    assert project.text("src/data/shop.py") == CODE


@pytest.mark.parametrize(
    ("right", "wrong", "verdict"),
    [
        ("", "", "yes"),
        ("pipenv sync", "pip install -r requirements.txt", "no"),
        ("USER 1000", "USER root:root", "partly"),
        ("USER 1000", "USER 1000\nFROM python:3.13@sha256:0 AS last", "partly"),
        ("@sha256:0", "", "partly"),
    ],
)
def test_an_image_is_built_from_the_lock(other, right, wrong, verdict):
    assert engineering.image(other(Dockerfile=IMAGE.replace(right, wrong, 1))).verdict == verdict


def test_without_pipenv_a_lock_is_not_compared_and_not_called_wrong(other, monkeypatch):
    monkeypatch.setenv("PIPENV", ".nowhere/bin/python -m pipenv")
    project = other(Pipfile="[packages]", **{"Pipfile.lock": '{"_meta": {}, "default": {}}'})
    found = engineering.locked(project)
    assert found.verdict == "partly"
    assert "no pipenv is at hand" in found.evidence


def test_a_project_without_anything_is_judged_all_the_same(other):
    found = list(command.judge(other(**{"README.md": "", "pyproject.toml": ""}), []))
    assert [each.verdict for _, each in found] == ["no"] * len(command.PRACTICES)
    assert command.level(found) == -1


def test_a_level_takes_all_practices_up_to_it():
    def found(**lacking):
        return [(each, Found(lacking.get(each.name, "yes"), "")) for each in command.PRACTICES]

    assert command.level(found()) == 4
    assert command.level(found(tested="partly")) == 0
    assert command.level(found(minded="no")) == 3
    assert command.level(found(tracked="no")) == -1


def test_the_log_of_the_registry_tells_what_was_done(other):
    project = other(**{"README.md": ""})
    project.log = [
        {"action": action, "alias": alias, "was": was, "now": now, "reason": why, "at": "2026-01-01T00:00:00Z"}
        for action, alias, was, now, why in (
            ("register", "champion", "", "1", ""),
            ("retrain", "", "", "", "drift: far off"),
            ("retrained", "", "", "2", "drift: far off"),
            ("rollout", "", "", "2", "better"),
            ("ab", "", "0", "0.2", "better"),
            ("promote", "champion", "1", "2", "better"),
        )
    ]
    assert [look(project).verdict for look in (operation.acted, operation.by_steps)] == ["yes", "yes"]
    assert [look(project).verdict for look in (operation.taken_back, operation.minded)] == ["no", "no"]
    project.log = project.log[:-1]
    assert operation.by_steps(project).verdict == "partly"


def test_another_project_gets_no_secret_of_whoever_judges_it(other, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    project = other(**{"params.toml": "[tracking]\nuri = 'sqlite:///own.db'\n"})
    said = project.run(sys.executable, "-c", "import os; print(dict(os.environ))").stdout
    assert "secret" not in said
    assert project.store == f"sqlite:///{project.path / 'own.db'}"
    assert project.store in said


def test_data_that_are_not_what_the_lock_names_are_noticed(other, monkeypatch):
    project = other(**{"data.lock": json.dumps({"rows.csv": {"sha256": "0" * 64}}), "rows.csv": "a,b\n"})
    monkeypatch.setattr(models, "_tags", lambda of: {"data_source": "rows.csv"})
    assert models.named(project) == Found("no", "rows.csv is not the file that data.lock names")


def test_the_exit_code_tells_whether_a_level_is_reached(other, monkeypatch, capsys):
    folder = str(other(**{"README.md": ""}).path)
    monkeypatch.setattr("sys.argv", ["maturity", "--project", folder, "--level", "0", "--json"])
    assert command.main() == command.BELOW
    assert json.loads(capsys.readouterr().out)["level"] == -1
    monkeypatch.setattr("sys.argv", ["maturity", "--practice", "tested", "--level", "1"])
    with pytest.raises(UserError, match="leave PRACTICE out"):
        command.main()
    monkeypatch.setattr("sys.argv", ["maturity", "--practice", "test"])
    with pytest.raises(UserError, match="did you mean tested"):
        command.main()
