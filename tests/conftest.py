"""Bake a project with any answers, and run its own commands in the environment that all bakes share."""

import dataclasses
import itertools
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT / "build" / "a space" / "ride-duration"
QUESTIONS = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
CHOICES = {name: sorted(values) for name, values in QUESTIONS.items() if isinstance(values, list) and name[0] != "_"}
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
AUTHOR = 'Žofia "Zoë" O\'Brien \\ 王'
NAMED = {"project_name": "Night Bus", "description": 'Says "when" & why.', "author": AUTHOR}
"""Answers that are nobody's default: whatever of the template's own shows up in such a bake has leaked."""


@dataclasses.dataclass
class Project:
    """A baked project on disk."""

    path: pathlib.Path

    def files(self):
        """Every file's path inside the project, apart from what its commands made."""
        made = {".venv", "model", "mlartifacts", "reports", ".cache", "data", "build"}
        found = (path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())
        return sorted(
            path.as_posix()
            for path in found
            if path.parts[0] not in made and "pycache" not in str(path) and "_cache" not in str(path)
        )

    def text(self, name):
        """A file's content."""
        return (self.path / name).read_text(encoding="utf-8")

    def run(self, *command, timeout=300, **environment):
        """Run a command in the project with the shared environment's packages; gives the finished process."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODEL_", "MLFLOW_", "PYTEST_", "MAKE"))}
        kept |= {"PYTHONPATH": str(self.path / "src"), "PATH": f"{SHARED}/.venv/bin:{os.environ['PATH']}"}
        kept |= {"MFLAGS": "", "MAKELEVEL": "0"} | environment
        return subprocess.run(command, cwd=self.path, env=kept, capture_output=True, text=True, timeout=timeout)

    def make(self, *words, **options):
        """Run make in the project."""
        return self.run("make", "--no-print-directory", *words, f"PIPENV={ROOT}/.pipenv/bin/pipenv", **options)

    def borrow_environment(self):
        """Use the shared packages: its lock names the same ones."""
        (self.path / ".venv").symlink_to(SHARED / ".venv", target_is_directory=True)
        os.utime(SHARED / ".venv" / ".ready")
        return self


@pytest.fixture
def bake(cookies):
    """Bake with some answers; what is wrong with them fails the test."""

    def baked(**answers):
        result = cookies.bake(extra_context=answers)
        assert result.exit_code == 0, result.exception
        return Project(pathlib.Path(result.project_path))

    return baked


def ident(answers):
    """A short name for a combination of answers."""
    return "-".join(answers[name] for name in ("problem", "tracking", "deployment", "maturity_level", "ci"))
