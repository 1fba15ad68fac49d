"""Shared parts of the benchmarks: the bake they measure, their sections of `docs/benchmarks.md`, and their plots."""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
PROJECT = ROOT / "build" / "a space" / "ride-duration"
PYTHON = str(PROJECT / ".venv" / "bin" / "python")
PLOT = """
import json, sys
from matplotlib.figure import Figure
names, values = zip(*reversed(json.loads(sys.argv[1]).items()))
figure = Figure(figsize=(7, 0.6 + 0.5 * len(names)), layout="constrained")
axes = figure.subplots()
axes.barh(names, values)
axes.set_xlabel(sys.argv[2])
figure.savefig(sys.argv[3], dpi=100)
"""


def machine():
    """The machine on which the figures were measured."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}"


def environment(project=PROJECT, **more):
    """The environment for a command of a bake, without the settings of this process itself."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MODEL_", "MLFLOW_", "PYTHON"))}
    # MLflow starts its server by the command's name, which PATH must find.
    clean["PATH"] = f"{PROJECT}/.venv/bin:{clean['PATH']}"
    return clean | {"PYTHONPATH": f"{project}/src", "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"} | more


def bake(folder, **answers):
    """A separate project that uses the shared packages, with a champion."""
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config", "-o", str(folder), str(ROOT)]
    subprocess.run([*command, *(f"{name}={value}" for name, value in answers.items())], check=True)
    project = folder / "ride-duration"
    (project / ".venv").symlink_to(PROJECT / ".venv", target_is_directory=True)
    pipeline = [PYTHON, "-m", "ride_duration", "pipeline"]
    subprocess.run(pipeline, cwd=project, env=environment(project), check=True, stdout=subprocess.DEVNULL)
    return project


def measure(project, code, *words):
    """The numbers that a piece of code prints when it runs in a project."""
    command = [PYTHON, "-c", code, *map(str, words)]
    done = subprocess.run(command, cwd=project, env=environment(project), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [float(word) for word in done.stdout.split()]


def section(title, text):
    """Put a section into the page, replacing the one with the same title."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    parts = dict(re.findall(r"^## (.+)\n\n((?:(?!^## ).*\n)*)", page, flags=re.M))
    parts[title] = text.strip() + "\n"
    head = (
        "# Benchmarks\n\nCompare the ratios; absolute figures depend on the machine, which also generated the load. "
        "Each section is generated\nby the script named in it.\n"
    )
    body = "".join(f"\n## {name}\n\n{content.strip()}\n" for name, content in sorted(parts.items()))
    PAGE.write_text(head + body, encoding="utf-8")
    print(text)


def plot(name, values, label):
    """Draw a bar chart into `docs/<name>.png`, with the bake's drawing library."""
    command = [PYTHON, "-c", PLOT, json.dumps(values), label, str(ROOT / "docs" / f"{name}.png")]
    subprocess.run(command, check=True)
