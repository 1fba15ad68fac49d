"""The project under test: its files, commits and commands, its tracking store, and the prediction log of its services."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dotenv
import mlflow
import pyarrow.parquet
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel

from ...base.params import ROOT
from ...tracking import conventions
from ...tracking import store as tracking_store

KEPT = ("PATH", "HOME", "USERPROFILE", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "PYTHONUTF8", "VIRTUAL_ENV")
"""The environment variables that another project's commands get: no secret of the user."""

PATIENCE_SECONDS = 1800
"""The time limit of a command of the project."""


class Found(NamedTuple):
    """Whether a practice is there, and the evidence: a file, a run, a version, a log entry."""

    verdict: Literal["yes", "partly", "no"]
    evidence: str


@dataclass
class Project:
    """The folder of this project or of another one; what it lacks is empty, never an error."""

    path: Path

    def text(self, name: str) -> str:
        """A file's content."""
        file = self.path / name
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def run(self, *command: str, folder: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, or in a copy of it, with the packages of its environment."""
        own = self.path == ROOT
        # A machine's own package index is part of pipenv's comparison, but not of the lock.
        kept = {name: value for name, value in os.environ.items() if (own and name[:4] != "PIP_") or name in KEPT}
        store = {"MLFLOW_TRACKING_URI": self.store} if self.store and not own else {}
        source = str((folder or self.path) / "src")
        try:
            return subprocess.run(
                command,
                cwd=folder or self.path,
                env={**kept, **store, "PYTHONPATH": source, **more},
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"not over after {PATIENCE_SECONDS} s")

    def git(self, *words: str) -> str:
        """The output of a git command in the project; empty if it has no commits."""
        done = self.run("git", *words)
        return done.stdout if done.returncode == 0 else ""

    def has_commit(self, commit: str) -> bool:
        """Whether its repository contains a commit."""
        return self.git("cat-file", "-t", commit).strip() == "commit"

    @functools.cached_property
    def python(self) -> str:
        """The interpreter of its environment, else the current one."""
        found = [self.path / ".venv" / each for each in ("bin/python", "Scripts/python.exe")]
        return next((str(each) for each in found if each.exists()), sys.executable)

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """Its pyproject.toml."""
        return tomllib.loads(self.text("pyproject.toml"))

    @functools.cached_property
    def template(self) -> dict[str, Any]:
        """The table of pyproject.toml with commands and names, which a project from this template has."""
        return dict(self.about.get("tool", {}).get("mlops-template", {}))

    @functools.cached_property
    def name(self) -> str:
        """The project's name."""
        return str(self.about.get("project", {}).get("name", self.path.name))

    @functools.cached_property
    def package(self) -> str:
        """The Python package with its commands; empty if there is none."""
        found = sorted(self.path.glob("src/*/__main__.py"))
        return found[0].parent.name if found else ""

    def command(self, *words: str) -> subprocess.CompletedProcess[str] | None:
        """Run one of its commands; None if it has no such command."""
        known = self.template.get("commands", {})
        return self.run(self.python, "-m", self.package, *words) if words[0] in known and self.package else None

    @functools.cached_property
    def store(self) -> str:
        """The address of its tracking store: from the environment or .env, from params.toml, or from the files that MLflow makes."""
        told = os.environ.get("MLFLOW_TRACKING_URI", "")
        kept = dotenv.dotenv_values(self.path / ".env").get("MLFLOW_TRACKING_URI")
        params = tomllib.loads(self.text("params.toml")).get("tracking", {}).get("uri")
        files = {"mlflow.db": "sqlite:///", "mlruns": ""}
        there = [f"{kind}{self.path / name}" for name, kind in files.items() if (self.path / name).exists()]
        # Environment variables apply to the project that the user works in.
        places = [told if self.path == ROOT else "", kept, params, *there]
        found = next((str(each) for each in places if each), "")
        database = found.removeprefix("sqlite:///")
        return f"sqlite:///{self.path / database}" if database != found else found

    @functools.cached_property
    def client(self) -> mlflow.MlflowClient:
        """A client of that store.

        Raises:
            LookupError: there is none.
        """
        if not self.store:
            raise LookupError("nothing was tracked: there is no mlflow.db, mlruns or MLFLOW_TRACKING_URI")
        return tracking_store.connect(self.store)

    def runs(self, part: str = "", most: int = 200, wanted: str = "") -> list[Run]:
        """Finished runs of its experiment, or of a part of it such as `monitor`, latest first; from all experiments if the store is a file."""
        found = list(self.client.search_experiments())
        ending = f"/{part}" if part else ""
        if self.store.startswith("http"):
            team = self.template.get("names", {}).get("team", "")
            wanted_name = f"{team}/{self.name}{ending}" if team else f"{self.name}{ending}"
            found = [each for each in found if each.name == wanted_name]
        chosen = [each.experiment_id for each in found if each.name.endswith(ending)]
        query = "attributes.status = 'FINISHED'" + (f" and {wanted}" if wanted else "")
        return list(self.client.search_runs(chosen, query, order_by=["start_time DESC"], max_results=most))

    @functools.cached_property
    def model(self) -> RegisteredModel | None:
        """Its registered model: the one with its name, else the latest in a store that belongs to it alone."""
        named = list(self.client.search_registered_models(f"name = '{self.name}'"))
        if named or self.store.startswith("http"):
            return next(iter(named), None)
        found = [each for each in self.client.search_registered_models() if not each.name.endswith(".moving")]
        return max(found, key=lambda each: each.last_updated_timestamp, default=None)

    @functools.cached_property
    def champion(self) -> ModelVersion:
        """The version that serves: the one with the alias champion, else the newest.

        Raises:
            LookupError: none is registered.
        """
        if self.model is None:
            raise LookupError("no version is registered")
        if "champion" in self.model.aliases:
            return self.client.get_model_version(self.model.name, self.model.aliases["champion"])
        found = self.client.search_model_versions(f"name = '{self.model.name}'")
        return max(found, key=lambda each: int(each.version))

    @functools.cached_property
    def training(self) -> Run:
        """The run that the champion came from."""
        return self.client.get_run(str(self.champion.run_id))

    @functools.cached_property
    def log(self) -> list[dict[str, str]]:
        """The entries of the registry's log: who moved what, when and why, oldest first."""
        tags = self.model.tags if self.model else {}
        return [json.loads(tags[key]) for key in sorted(tags) if key.startswith(conventions.MOVE)]

    @functools.cached_property
    def answers(self) -> list[dict[str, Any]]:
        """Its logged predictions, oldest first: time, version and role of each."""
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "predictions.parquet"
            done = self.command("predictions", "--output", str(file))
            if done is None or done.returncode:
                return []
            table = pyarrow.parquet.read_table(file, columns=["time", "model_version", "role"])
        return list(table.sort_by("time").to_pylist())

    def files(self, *patterns: str) -> Iterator[Path]:
        """Its files that match some patterns, in a fixed order."""
        for pattern in patterns:
            yield from sorted(self.path.glob(pattern))


def day(milliseconds: int | None) -> str:
    """A timestamp of MLflow as a date."""
    return f"{datetime.fromtimestamp((milliseconds or 0) / 1000, UTC):%Y-%m-%d %H:%M} UTC"
