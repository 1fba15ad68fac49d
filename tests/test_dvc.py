"""Data versions with DVC: the commands of the page, run with a folder as the remote store."""

import os
import re
import shlex
import subprocess
import sys

import pytest
from conftest import NAMED, ROOT

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs" / "data-versioning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.partition("## The same with DVC")[2], re.S)


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """The folder with DVC's own program, in an environment of its own as the page says."""
    folder = tmp_path_factory.mktemp("dvc")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "dvc"], check=True)
    return folder / "bin"


def fingerprint(project):
    """The data fingerprint of the last run."""
    code = (
        "from night_bus.tracking import store; import mlflow; store.connect()\n"
        "print(mlflow.search_runs(search_all_experiments=True)['tags.data_fingerprint'][0])"
    )
    return project.run(".venv/bin/python", "-c", code).stdout.strip()


def test_the_page_s_lines_version_data_with_dvc(bake, tools, tmp_path):
    project = bake(**NAMED).borrow_environment()
    store = tmp_path / "store"
    own = project.environment(PATH=f"{tools}:{os.environ['PATH']}", DVC_NO_ANALYTICS="1")
    own |= {f"GIT_{role}_{field}": "ann@example.com" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}

    def run(line):
        words = [str(store) if word == "/srv/data" else word for word in shlex.split(line, comments=True)]
        if words[0] == "make":
            words = list(project.make_command(*words[1:]))
        done = subprocess.run(words, cwd=project.path, env=own, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stderr}"

    run("git init -q -b main")
    run("make data")
    (project.path / "data" / "sample.parquet").rename(project.path / "data" / "rides.parquet")
    here, elsewhere = BLOCKS
    for line in here.splitlines():
        if not line.startswith("pip"):
            run(line)
    run("git add -A")
    run("git commit -q --no-verify -m data")
    first = fingerprint(project)
    assert first
    (project.path / "data" / "rides.parquet").unlink()
    run("rm -rf .dvc/cache")
    for line in elsewhere.splitlines():
        run(line)
    assert fingerprint(project) == first
