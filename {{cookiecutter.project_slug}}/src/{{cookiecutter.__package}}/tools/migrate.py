"""Move everything in this project's local store to a tracking server, and check that all of it arrived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities import Experiment, Run, ViewType
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from ..base.errors import Parser, UserError
from ..base.params import ROOT
from ..tracking import conventions
from ..tracking import store as connection
from ..tracking.copy_runs import Transfer, local

ORIGIN_VERSION = "origin_version"
"""The tag of a copied version with its origin: the logged model's id and the number in its own store."""


@dataclass
class Counts:
    """The counts of one side."""

    experiments: int = 0
    runs: int = 0
    points: int = 0
    models: int = 0
    versions: int = 0
    files: int = 0
    digests: set[str] = field(default_factory=set)

    def lines(self) -> dict[str, int]:
        """A label for each count."""
        return {
            "experiments": self.experiments,
            "runs": self.runs,
            "metric values": self.points,
            "logged models": self.models,
            "registered versions": self.versions,
            "files": self.files,
        }


class Migration(Transfer):
    """Moves experiments, runs, models, versions and aliases; what is at the target already is unchanged."""

    def all(self) -> None:
        """Copy everything; run again, it copies what is missing."""
        for experiment, runs in experiments(self.source):
            for run in runs:
                self.run(run, self._experiment(experiment))
        for model in self.source.search_registered_models():
            self._registered(model)

    def _experiment(self, experiment: Experiment) -> str:
        found = self.target.get_experiment_by_name(experiment.name)
        tags = {name: value for name, value in experiment.tags.items() if not name.startswith("mlflow.")}
        return str(found.experiment_id if found else self.target.create_experiment(experiment.name, tags=tags))

    def _registered(self, model: RegisteredModel) -> None:
        name = model.name
        new = not self.target.search_registered_models(f"name = '{name}'")
        if new:
            self.target.create_registered_model(name, description=model.description)
        there = {
            version.tags[ORIGIN_VERSION]: version.version
            for version in versions(self.target, name)
            if ORIGIN_VERSION in version.tags
        }
        numbers = {}
        for version in versions(self.source, name):
            numbers[str(version.version)] = str(there.get(_origin(version)) or self._version(name, version))
            for key, value in version.tags.items():
                self.target.set_model_version_tag(name, numbers[str(version.version)], key, value)
        try:
            self._history(model, numbers, new)
        except MlflowException as error:
            if "maintainer" not in str(error):
                raise
            print(
                f"{name}: only a maintainer of the team may move its champion there: ask one to run this, or to promote"
            )

    def _history(self, model: RegisteredModel, numbers: dict[str, str], new: bool) -> None:
        """The aliases and, for a model that is new there, the champion's log, with the version numbers of the target."""
        for key, text in model.tags.items() if new else ():
            if key.startswith(conventions.MOVE):
                note = json.loads(text)
                text = json.dumps(note | {end: numbers.get(note[end], "") for end in ("was", "now")})
            self.target.set_registered_model_tag(model.name, key, text)
        taken = self.target.get_registered_model(model.name).aliases
        for alias, number in self.source.get_registered_model(model.name).aliases.items():
            if alias not in taken:
                self.target.set_registered_model_alias(model.name, alias, numbers[str(number)])

    def _version(self, name: str, version: ModelVersion) -> str:
        model_id = str(version.source).removeprefix("models:/")
        if model_id not in self.models:
            raise UserError(
                f"version {version.version} of {name} is made from {version.source}, which is not in the store"
            )
        made = self.target.create_model_version(
            name,
            f"models:/{self.models[model_id]}",
            self.runs.get(str(version.run_id)),
            tags={ORIGIN_VERSION: _origin(version)},
            description=version.description,
            model_id=self.models[model_id],
        )
        return str(made.version)

    def compare(self) -> tuple[Counts, Counts]:
        """Both sides of what was copied, counted and with the checksum of every file; the target's files are downloaded."""
        here, there = Counts(), Counts()
        for experiment, runs in experiments(self.source):
            here.experiments += 1
            there.experiments += self.target.get_experiment_by_name(experiment.name) is not None
            for run in runs:
                _count(here, self.source, run)
                _count(there, self.target, self.target.get_run(self.runs[run.info.run_id]))
        for model in self.source.search_registered_models():
            mine = {_origin(version) for version in versions(self.source, model.name)}
            here.versions += len(mine)
            there.versions += len(mine & {v.tags.get(ORIGIN_VERSION) for v in versions(self.target, model.name)})
        return here, there


def _origin(version: ModelVersion) -> str:
    """The origin of a version, which its number alone does not identify."""
    return f"{str(version.source).removeprefix('models:/')} {version.version}"


def experiments(client: mlflow.MlflowClient) -> Iterator[tuple[Experiment, list[Run]]]:
    """Every experiment that has runs, and its runs, oldest first, so that a parent comes before its children."""
    for experiment in client.search_experiments(order_by=["creation_time ASC"]):
        runs: list[Run] = []
        token = None
        while True:
            page = client.search_runs(
                [experiment.experiment_id], "", ViewType.ACTIVE_ONLY, 1_000, ["attributes.start_time ASC"], token
            )
            runs += page
            token = page.token
            if not token:
                break
        if runs:
            yield experiment, runs


def versions(client: mlflow.MlflowClient, name: str) -> list[ModelVersion]:
    """Every version of a registered model, oldest first."""
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))


def _count(counts: Counts, client: mlflow.MlflowClient, run: Run) -> None:
    counts.runs += 1
    counts.points += sum(len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics)
    counts.digests |= set(_digests(counts, local(str(run.info.artifact_uri)), run.info.run_name))
    for output in run.outputs.model_outputs if run.outputs else []:
        counts.models += 1
        folder = local(client.get_logged_model(output.model_id).artifact_location)
        counts.digests |= set(_digests(counts, folder, f"{run.info.run_name} model"))


def _digests(counts: Counts, folder: Path, what: str) -> Iterable[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            counts.files += 1
            yield f"{what} {path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def main() -> int:
    """`make migrate-tracking`: move the local store's runs and models to the server TO."""
    parser = Parser(prog="make migrate-tracking", description=main.__doc__)
    parser.add_argument("--to", default="", help="address of the server (make migrate-tracking TO=https://...)")
    given = parser.parse_args()
    database = ROOT / "mlflow.db"
    if not given.to:
        raise UserError("where to? make migrate-tracking TO=https://mlflow.example.org (user and password: .env)")
    if not database.exists():
        raise UserError(f"there is no local store at {database}: nothing to move")
    store = f"sqlite:///{database.as_posix()}"
    connection.connect(store)
    migration = Migration(mlflow.MlflowClient(store, store), mlflow.MlflowClient(given.to, given.to))
    connection.connect(given.to.rstrip("/"))
    with connection.errors():
        migration.all()
        here, there = migration.compare()
    print(f"{'':20} {'here':>8} {'there':>8}")
    for name, count in here.lines().items():
        print(f"{name:20} {count:8,} {there.lines()[name]:8,}")
    different = here.digests ^ there.digests
    if here.lines() != there.lines() or different:
        raise UserError(f"not all of it arrived ({len(different):,} files differ): run it again")
    print(f"every file has the same checksum on both sides; set MLFLOW_TRACKING_URI={given.to} in .env")
    return 0
