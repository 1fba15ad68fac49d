"""Train a registered version again, from its commit, its lock and its data, and compare the metrics."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from ..base.errors import Parser, UserError
from ..base.params import PACKAGE, ROOT
from ..data import data_lock, read, sources
from ..tracking import conventions
from . import registry

FOLDER = ROOT / ".cache" / "reproduce"


def reproduce(number: str) -> dict[str, tuple[float, float]]:
    """Metric -> the value that the version's run logged, and the value of the new training.

    The commit is checked out as a worktree, which is removed at the end, together with the runs of the new training.

    Raises:
        UserError: the version is marked as not reproducible, a part of it is missing, or a step failed.
    """
    traced = registry.trace(number)
    commit, source = traced["git_commit"], traced["data_source"]
    if len(commit) < 40 or _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(f"version {number} was trained at commit {commit}, which is not in this repository: fetch it")
    if traced["git_dirty"] == "true":
        raise UserError(
            f"version {number} was trained from files that were not committed: it cannot be reproduced exactly"
        )
    tree = FOLDER / number
    _git("worktree", "prune")
    if tree.exists():
        _remove(tree)
    done = _git("worktree", "add", "--detach", str(tree), commit)
    if done.returncode:
        raise UserError(f"commit {commit[:12]} cannot be checked out: {done.stderr.strip().splitlines()[-1]}")
    try:
        print(f"checked out {commit[:12]}", flush=True)
        words = _data(tree, source)
        if traced["engine"] in ("disk", "spark"):
            words += ["--engine", traced["engine"]]
        return _compare(tree, _python(tree, traced["lock_fingerprint"]), traced, words)
    finally:
        _remove(tree)


def _python(tree: Path, fingerprint: str) -> str:
    """A Python with the packages of the commit's lock: the current one if the lock is the same."""
    if conventions.code_tags()["lock_fingerprint"] == fingerprint:
        print("its lock is the same as the current one, so are the packages", flush=True)
        return sys.executable
    print("installing the packages of its lock", flush=True)
    # make's command for pipenv is a path in this folder, which the other one does not have.
    pipenv = os.environ.get("PIPENV", "")
    pipenv = f"{shlex.quote(str(ROOT))}/{pipenv}" if pipenv.startswith(".pipenv/") else pipenv
    words = [f"PIPENV={pipenv}"] if pipenv else []
    if subprocess.run(["make", "--no-print-directory", "setup", *words], cwd=tree).returncode:
        raise UserError("the packages of that commit's lock cannot be installed (see above)")
    return str(tree / ".venv" / Path(sys.executable).relative_to(sys.prefix))


def _data(tree: Path, source: str) -> list[str]:
    """The arguments for `make train` that name the data of the commit, once they are there."""
    if source == read.SAMPLE:
        return []
    if sources.divided(source):  # its rows are compared
        return ["--data", source if "://" in source else str(Path(source).absolute())]
    # A file that was added to the lock after the commit, as for retraining, is accepted: its rows are compared.
    locked = data_lock.entries() | data_lock.entries(tree / data_lock.FILE.name)
    published = [name for name, entry in locked.items() if entry["origin"] == source]
    name = next((name for name in (data_lock.named(Path(source)), *published) if name in locked), "")
    if not name and not read.form(source):
        raise UserError(f"its data were in the folder {source}, which is not here any more: put it back")
    if not name:
        raise UserError(
            f"its data, {source}, are not in {data_lock.FILE.name}: name data with `make data KEEP=` "
            "before you train on them"
        )
    print(f"{name} comes from {data_lock.restore(tree / name, locked[name])}", flush=True)
    return ["--data", source if "://" in source else name]


def _compare(tree: Path, python: str, traced: dict[str, str], words: list[str]) -> dict[str, tuple[float, float]]:
    print("training", flush=True)
    own = {"PYTHONPATH": str(tree / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{(tree / 'mlflow.db').as_posix()}"}
    done = subprocess.run(
        [python, "-m", PACKAGE.name, "train", *words],
        cwd=tree,
        env={**os.environ, **own},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(f"training again failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    made = json.loads((tree / "model" / "model.json").read_text())
    if made["data"]["fingerprint"] != traced["data_fingerprint"]:
        raise UserError(
            f"the rows differ: fingerprint {made['data']['fingerprint']} now, {traced['data_fingerprint']} then"
        )
    then = registry.measured(traced["version"])
    return {name: (then[name], float(now)) for name, now in made["metrics"].items() if name in then}


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)


def _remove(tree: Path) -> None:
    _git("worktree", "remove", "--force", str(tree))
    shutil.rmtree(tree, ignore_errors=True)


def main() -> int:
    """`make reproduce VERSION=2`: train a version again from its commit, its lock and its data, and compare the metrics."""
    parser = Parser(prog="make reproduce", description=main.__doc__)
    parser.add_argument("version", nargs="?", default="")
    number = parser.parse_args().version
    if not number:
        raise UserError("which version? make reproduce VERSION=2 (make registry lists them)")
    found = reproduce(number)
    width = max(map(len, found))
    for name, (then, now) in found.items():
        print(f"{name:{width}}  {then!r:>20}  {now!r:>20}  {'the same' if then == now else 'DIFFERENT'}")
    same = sum(then == now for then, now in found.values())
    print(f"version {number}: {same} of {len(found)} metrics are the same to the last digit")
    return 0 if same == len(found) else 1
