"""Add the packages of other answers to the environment that all tests share, unless they are installed."""

import argparse
import json
import pathlib
import subprocess
import tempfile

from cookiecutter.main import cookiecutter

ROOT = pathlib.Path(__file__).resolve().parent.parent
WANTED = {
    "batch": ({"deployment": "batch"}, "packages"),
    "streaming": ({"deployment": "streaming"}, "packages broker"),
    "remote": ({"tracking": "remote"}, "tracking"),
    "audit": ({}, "audit"),
}
SPARK = {"spark": ({"deployment": "batch"}, "spark")}


def main():
    """Bake with each answer and install its additional packages into the shared environment."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("environment", type=pathlib.Path)
    parser.add_argument("--pipenv", required=True)
    parser.add_argument("--spark", action="store_true", help="and Spark, half a gigabyte that only the benchmarks use")
    given = parser.parse_args()
    for name, (answers, categories) in (WANTED | (SPARK if given.spark else {})).items():
        done = given.environment / f".{name}"
        with tempfile.TemporaryDirectory() as scratch:
            context = {**answers, "maturity_level": "1"}
            baked = cookiecutter(
                str(ROOT), no_input=True, default_config=True, output_dir=scratch, extra_context=context
            )
            lock = json.loads((pathlib.Path(baked) / "Pipfile.lock").read_text())["_meta"]["hash"]["sha256"]
            if done.exists() and done.read_text() == lock:
                continue
            (pathlib.Path(baked) / ".venv").symlink_to(given.environment.resolve(), target_is_directory=True)
            command = [given.pipenv, "sync", "--categories", categories]
            subprocess.run(command, cwd=baked, check=True, stdout=subprocess.DEVNULL)
        done.write_text(lock)


if __name__ == "__main__":
    main()
