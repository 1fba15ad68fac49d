"""Add what the other doors need to the environment that all tests share, unless it is there already."""

import argparse
import json
import pathlib
import subprocess
import tempfile

from cookiecutter.main import cookiecutter

ROOT = pathlib.Path(__file__).resolve().parent.parent
CATEGORIES = {"batch": "packages", "streaming": "packages broker"}


def main():
    """Bake each door and let pipenv install its lock into the shared environment."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("environment", type=pathlib.Path)
    parser.add_argument("--pipenv", required=True)
    given = parser.parse_args()
    for door, categories in CATEGORIES.items():
        done = given.environment / f".{door}"
        with tempfile.TemporaryDirectory() as scratch:
            answers = {"deployment": door, "maturity_level": "1"}
            baked = cookiecutter(
                str(ROOT), no_input=True, default_config=True, output_dir=scratch, extra_context=answers
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
