"""Keep what was chosen: one table of path -> the answers that keep it."""

import pathlib
import shutil

PACKAGE = "src/{{ cookiecutter.__package }}"
LEVEL = int("{{ cookiecutter.maturity_level }}")

ANSWERS = {
    "problem": "{{ cookiecutter.problem }}",
    "tracking": "{{ cookiecutter.tracking }}",
    "deployment": "{{ cookiecutter.deployment }}",
    "ci": "{{ cookiecutter.ci }}",
}

# A path with several conditions needs all of them; "level" is the least that has it.
KEEP = {
    f"{PACKAGE}/problem.ride_duration.py": {"problem": "ride-duration"},
    f"{PACKAGE}/web.py": {"deployment": "web"},
    f"{PACKAGE}/openapi.py": {"deployment": "web"},
    f"{PACKAGE}/templates": {"deployment": "web"},
    f"{PACKAGE}/static": {"deployment": "web"},
    "gunicorn.conf.py": {"deployment": "web"},
    "examples/predict.py": {"deployment": "web"},
    ".devcontainer": {"level": 1},
    ".dockerignore": {"level": 1},
    ".github/dependabot.yml": {"ci": "github", "level": 1},
    ".github/workflows/ci.yml": {"ci": "github", "level": 1},
    ".pre-commit-config.yaml": {"level": 1},
    "Dockerfile": {"level": 1},
    "compose.yaml": {"deployment": "web", "level": 1},
    "tests": {"level": 1},
    "tests/code/test_web.py": {"deployment": "web", "level": 1},
    ".github/workflows/train.yml": {"ci": "github", "level": 2},
    f"{PACKAGE}/card.py": {"level": 2},
    f"{PACKAGE}/gate.py": {"level": 2},
    f"{PACKAGE}/pipeline.py": {"level": 2},
    f"{PACKAGE}/registry.py": {"level": 2},
    f"{PACKAGE}/validate.py": {"level": 2},
    "tests/code/test_registry.py": {"level": 2},
    "tests/data/test_validation.py": {"level": 2},
}
# A file whose name says for which answer it is gets the name that the project knows it by.
RENAME = {f"{PACKAGE}/problem.ride_duration.py": f"{PACKAGE}/problem.py"}


def kept(conditions):
    """Whether the answers meet every condition."""
    return all(value <= LEVEL if name == "level" else ANSWERS[name] == value for name, value in conditions.items())


for name, conditions in KEEP.items():
    path = pathlib.Path(name)
    if path.exists() and not kept(conditions):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        for parent in path.parents[:-1]:
            if not any(parent.iterdir()):
                parent.rmdir()
    elif name in RENAME:
        path.rename(RENAME[name])
