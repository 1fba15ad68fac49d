"""The project as a package: Pipenv's own commands work, and its wheel contains the pages."""

import os
import shutil
import subprocess
import sys
import urllib.request

import pytest
from conftest import NAMED, ROOT, SHARED, answers_at, free_port, wait

pytestmark = pytest.mark.slow


def test_pipenv_s_own_commands_of_the_readme_make_a_project_that_trains(bake):
    project = bake(**NAMED, maturity_level="0")
    pipenv = f"{ROOT}/.pipenv/bin/pipenv"
    own = {"PIPENV_VENV_IN_PROJECT": "1", "PIPENV_IGNORE_VIRTUALENVS": "1", "PIP_NO_COMPILE": "0", "PYTHONPATH": ""}
    own["PATH"] = f"{ROOT}/.pipenv/bin:{os.environ['PATH']}"
    for name in ("setup", "train"):
        assert f"`pipenv run {name}" in project.text("README.md").replace("\n", " ")
        done = project.run(pipenv, "--python", sys.executable, "run", name, timeout=900, **own)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (project.path / "model" / "model.onnx").exists()


def test_a_wheel_serves_the_page(bake, tmp_path):
    """The package is installed elsewhere; settings and model are those of the folder it is started in."""
    project = bake(**NAMED, maturity_level="0").borrow_environment()
    assert project.make("train").returncode == 0
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, project.path], check=True, timeout=300)
    (wheel,) = tmp_path.glob("night_bus-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True, timeout=300)
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("params.toml", "pyproject.toml", "gunicorn.conf.py"):
        shutil.copy(project.path / name, folder)
    shutil.copytree(project.path / "model", folder / "model")
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "WEB_CONCURRENCY": "1"}
    command = [SHARED / ".venv/bin/python", "-m", "night_bus", "web", "--port", str(port)]
    server = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        wait(lambda: answers_at(f"http://127.0.0.1:{port}/readyz"), 20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
            assert "How long will the ride take?" in page.read().decode()
        for path in ("static/page.css", "static/page.js", "openapi.json", "docs"):
            assert answers_at(f"http://127.0.0.1:{port}/{path}")
    finally:
        server.terminate()
        server.wait(30)
