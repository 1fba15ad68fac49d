"""Time a bake with default answers, and those of other templates if checkouts of them are given."""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from report import ROOT, machine, section


def bake(template):
    """Seconds and number of files of one bake with the command from the README."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config", "-o", scratch, str(template)]
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"{template}: {done.stderr.strip() or done.stdout.strip()}")
        return seconds, sum(path.is_file() and ".git" not in path.parts for path in pathlib.Path(scratch).rglob("*"))


def main():
    """Bake the templates alternately for a few rounds and write the medians."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("others", nargs="*", type=pathlib.Path, help="checkouts, such as of cookiecutter-uv")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        # A checkout holds no build, environment or cache.
        mine = pathlib.Path(scratch) / "this template"
        shutil.copytree(ROOT, mine, ignore=shutil.ignore_patterns(".git", ".venv", ".pipenv", "build", "*_cache"))
        templates = [mine, *(path.resolve() for path in given.others)]
        results = {template.name: [] for template in templates}
        for _ in range(given.rounds):
            for template in templates:
                results[template.name].append(bake(template))
    medians = {name: statistics.median(seconds for seconds, _ in rows) for name, rows in results.items()}
    rows = "\n".join(
        f"| {name} | {seconds:.2f} | {medians[mine.name] / seconds:.2f} | {results[name][0][1]} |"
        for name, seconds in medians.items()
    )
    section(
        "Baking",
        f"`benchmarks/bake.py` ({machine()}): `cookiecutter --no-input` with default answers, median of {given.rounds} "
        f"alternating bakes.\n\n| template | seconds | ours / theirs | files |\n|---|---|---|---|\n{rows}",
    )


if __name__ == "__main__":
    main()
