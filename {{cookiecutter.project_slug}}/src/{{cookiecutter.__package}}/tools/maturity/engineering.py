"""The practices of level 1: a lock, tests that can fail, CI that runs them, an image from the lock."""

from __future__ import annotations

import ast
import collections
import functools
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ...base.params import ROOT
from . import workflows
from .project import Found, Project

PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")

MUTATIONS = 3
"""The number of mistakes that are tried, one at a time."""

SKIPPED = (".git", ".venv", ".pipenv", ".cache", "mlflow.db", "mlartifacts", "mlruns", "node_modules", "__pycache__", "predictions", "scored", "data")  # fmt: skip
"""What a copy for tests does not need."""

OPPOSITE: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn,
    ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip
"""The operators of mutation testing (Offutt et al. 1996): each is replaced by another one of its kind."""


def locked(project: Project) -> Found:
    """The lock matches the list of packages, and has a hash of each."""
    text = project.text("Pipfile.lock")
    if not text:
        others = [name for name in ("uv.lock", "poetry.lock", "pdm.lock") if project.text(name)]
        pinned = "--hash=" in project.text("requirements.txt")
        if others or pinned:
            return Found(
                "partly", f"{(others or ['requirements.txt'])[0]} is there; only Pipfile.lock is verified here"
            )
        return Found("no", "no lock: packages are what is newest on the day")
    lock = json.loads(text)
    bare = [
        name
        for category, packages in lock.items()
        if category != "_meta"
        for name, entry in packages.items()
        if "version" in entry and not entry.get("hashes")
    ]
    if bare:
        return Found("no", f"Pipfile.lock has no hash of {', '.join(bare[:3])}{' and more' * (len(bare) > 3)}")
    # make's command for pipenv may be a path in this project's folder.
    words = shlex.split(os.environ.get("PIPENV", "pipenv"))
    words[0] = shutil.which(str(ROOT / words[0])) or shutil.which(words[0]) or ""
    plain = functools.partial(project.run, PIPENV_IGNORE_VIRTUALENVS="1", PIP_CONFIG_FILE=os.devnull)
    done = plain(*words, "verify") if words[0] else None
    if done is None or "Pipfile" not in done.stdout + done.stderr:
        return Found("partly", "Pipfile.lock has all hashes; no pipenv is at hand that would compare it with Pipfile")
    if done.returncode:
        return Found("no", "Pipfile.lock is not that of Pipfile")
    return Found(
        "yes",
        f"Pipfile.lock is that of Pipfile; hashes of {len(set().union(*(each for name, each in lock.items() if name != '_meta'))):,} packages",
    )


def tested(project: Project) -> Found:
    """The tests pass."""
    done = project.run(project.python, *PYTEST)
    last = next((line for line in reversed(done.stdout.splitlines()) if " in " in line), "").strip("= ")
    if done.returncode == 0 and " passed" in f" {last}":
        return Found("yes", last)
    failed = next((line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
    return Found("no", failed[:200] or last or "there are no tests")


def noticed(project: Project) -> Found:
    """The tests fail if the code is wrong: mistakes are made in a copy, in the functions that the tests use most."""
    tried, missed = 0, []
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / project.path.name
        _copy(project, copy)
        if project.run(project.python, *PYTEST, folder=copy, PYTHONDONTWRITEBYTECODE="1").returncode:
            return Found("no", "there are no tests that pass in a copy of the project")
        for file, function, text in _mistakes(project):
            target = copy / file
            right = target.read_text(encoding="utf-8")
            target.write_text(text, encoding="utf-8")
            done = project.run(project.python, *PYTEST, folder=copy, PYTHONDONTWRITEBYTECODE="1")
            target.write_text(right, encoding="utf-8")
            tried += 1
            missed += [f"{function} of {file}"] if done.returncode == 0 else []
    if not tried:
        return Found("no", "no test uses a function of src/")
    if not missed:
        return Found("yes", f"{tried} of {tried} mistakes that were made in a copy were noticed")
    evidence = f"{tried - len(missed)} of {tried} mistakes were noticed, one in {missed[0]} was not"
    # Some mistakes change nothing that a test could detect.
    return Found("no" if len(missed) == tried else "yes" if 2 * len(missed) < tried else "partly", evidence)


def _copy(project: Project, target: Path) -> None:
    """Copy what the project's repository contains; without commits, everything except SKIPPED at the top."""
    if tracked := project.git("ls-files", "-z", "--cached", "--others", "--exclude-standard"):
        for name in filter(None, tracked.split("\0")):
            if (project.path / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(project.path / name, target / name)
        return
    made = shutil.ignore_patterns(*SKIPPED)
    shutil.copytree(project.path, target, symlinks=True, ignore=lambda at, names: made(at, names) if at == str(project.path) else [])  # fmt: skip


def _mistakes(project: Project) -> Iterator[tuple[str, str, str]]:
    """For the functions that tests call most, each from another file: the file, the function, and the file's text with one operator wrong."""
    used: collections.Counter[tuple[str, str]] = collections.Counter()
    for path in project.files("tests/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                used[called.value.id, called.attr] += 1
            elif isinstance(called, ast.Name):
                used["", called.id] += 1
    found = []
    for path in project.files("src/**/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)):
            # `split.split(...)` is the function in split.py; a name alone was imported from another module.
            count = used[path.stem, function.name] + used["", function.name]
            places = [each for each in ast.walk(function) if isinstance(each, ast.Compare | ast.BinOp)]
            if count and any(_operator(each) in OPPOSITE for each in places):
                found.append((count, path, tree, function))
    done: set[Path] = set()
    for _, path, tree, function in sorted(found, key=lambda each: (-each[0], each[1])):
        if path not in done and len(done) < MUTATIONS:
            done.add(path)
            node = next(each for each in ast.walk(function) if isinstance(each, ast.Compare | ast.BinOp) and _operator(each) in OPPOSITE)  # fmt: skip
            wrong = OPPOSITE[_operator(node)]()
            if isinstance(node, ast.Compare):
                node.ops[0] = wrong  # type: ignore[call-overload]
            else:
                node.op = wrong  # type: ignore[assignment]
            yield path.relative_to(project.path).as_posix(), function.name, ast.unparse(tree)


def _operator(node: ast.Compare | ast.BinOp) -> type[ast.AST]:
    return type(node.ops[0] if isinstance(node, ast.Compare) else node.op)


def checked(project: Project) -> Found:
    """CI runs the tests on each push or merge request."""
    for step in workflows.steps(project):
        if step.events & {"push", "pull_request"}:
            said = [project.run("make", "-n", target).stdout for target in workflows.targets(step.line)]
            commands = [step.line, *(line.strip() for each in said for line in each.splitlines())]
            if any(
                workflows.runs(line, r"(?:pytest|tox|nox)(?! --(?:version|help|collect-only))") for line in commands
            ):
                return Found("yes", f"{step.file}, job {step.job}: {step.line}")
    return Found("no", "no workflow runs the tests on a push or a merge request, or their failure fails no job")


def image(project: Project) -> Found:
    """The image is built from the lock, on a base image pinned by digest, for a user that is not root."""
    text = re.sub(r"\\\n\s*", " ", project.text("Dockerfile"))
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]
    locks = r"(pipenv\S* (sync|install .*--deploy)|pip3? install .*--require-hashes|uv sync .*(--frozen|--locked)|poetry install)[^&|]*"
    from_lock = [found for line in lines if line.startswith("RUN") and (found := re.search(locks, line))]
    if not from_lock:
        return Found("no", "Dockerfile installs what is newest" if lines else "there is no Dockerfile")
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, flags=re.M))
    froms = re.findall(r"^FROM (?:--\S+ )*(\S+)(?: AS (\S+))?", text, flags=re.M | re.I)
    bases = [re.sub(r"\$\{?(\w+)\}?", lambda each: arguments.get(each[1], ""), base) for base, _ in froms]
    loose = [each for each in bases if each not in {stage for _, stage in froms} and "@sha256:" not in each]
    last = re.split(r"^FROM ", text, flags=re.M)[-1]
    users = re.findall(r"^USER ([^\s:]+)", last, flags=re.M)
    wrong = [f"{loose[0]} may change"] if loose else []
    wrong += ["it runs as root"] if not users or users[-1] in ("root", "0") else []
    return Found("partly" if wrong else "yes", f"Dockerfile: {', '.join(wrong) or from_lock[0][0].strip()}")
