"""Copy runs and their models from one MLflow store to another; what is there already is not copied again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric, Param, Run, RunTag

ORIGIN_RUN, ORIGIN_MODEL = "origin_run_id", "origin_model_id"
"""The tags of a copy: the id of the original in its own store."""

PARENT = "mlflow.parentRunId"
ENDED = ("FINISHED", "FAILED", "KILLED")


class Transfer:
    """Copies from one store to another.

    Args:
        source: the store that has the runs.
        target: the store that gets them.

    Attributes:
        runs: run id in the source -> run id in the target, of all copied runs.
        models: the same for logged models.
    """

    def __init__(self, source: mlflow.MlflowClient, target: mlflow.MlflowClient) -> None:
        self.source, self.target = source, target
        self.runs: dict[str, str] = {}
        self.models: dict[str, str] = {}

    def run(self, run: Run, experiment_id: str, into: str = "") -> str:
        """Copy a run with its times, parameters, metrics, data sets, models, artifacts and tags; returns its new id.

        `into` names the target's run if there is one already. An interrupted copy is completed: the status
        is written last, so a copy that has ended is complete.
        """
        origin = run.info.run_id
        copy = into or self._known(origin, experiment_id) or self._open(run, experiment_id)
        self.runs[origin] = copy
        there = self.target.get_run(copy)
        whole = there.data.tags.get(ORIGIN_RUN) == origin and there.info.status in ENDED
        for output in run.outputs.model_outputs if run.outputs else []:
            self._model(self.source.get_logged_model(output.model_id), experiment_id, copy)
            new = self.models[output.model_id]
            if not any(one.model_id == new for one in (there.outputs.model_outputs if there.outputs else [])):
                self.target.log_outputs(copy, [LoggedModelOutput(new, output.step)])
        if whole:
            return copy
        for params in _parts([Param(*pair) for pair in run.data.params.items()], 100):
            self.target.log_batch(copy, params=params)
        points = [point for name in run.data.metrics for point in self.source.get_metric_history(origin, name)]
        for metrics in _parts([Metric(m.key, m.value, m.timestamp, m.step) for m in points], 500):
            self.target.log_batch(copy, metrics=metrics)
        if run.inputs and run.inputs.dataset_inputs:
            self.target.log_inputs(copy, run.inputs.dataset_inputs)
        self._artifacts(str(run.info.artifact_uri), copy)
        # A run that `mlflow run` has made names the project as its source.
        source = {name: value for name, value in there.data.tags.items() if name.startswith("mlflow.source.")}
        for tags in _parts([RunTag(*pair) for pair in (self._tags(run) | source).items()], 100):
            self.target.log_batch(copy, tags=tags)
        self.target.set_terminated(copy, run.info.status, run.info.end_time)
        return copy

    def _known(self, origin: str, experiment_id: str) -> str:
        """The copy of a run, if a copy was begun."""
        found = self.target.search_runs([experiment_id], f"tags.{ORIGIN_RUN} = '{origin}'", max_results=1)
        return str(found[0].info.run_id) if found else ""

    def _open(self, run: Run, experiment_id: str) -> str:
        tags = {ORIGIN_RUN: run.info.run_id}
        made = self.target.create_run(experiment_id, run.info.start_time, tags, run.info.run_name)
        return str(made.info.run_id)

    def _tags(self, run: Run) -> dict[str, str]:
        """A run's tags for its copy, without MLflow's internal tag of its models, which has ids of the source."""
        tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.log-model.history"}
        if PARENT in tags:
            tags[PARENT] = self.runs.get(tags[PARENT], tags[PARENT])
        return {**tags, ORIGIN_RUN: run.info.run_id}

    def _model(self, model: LoggedModel, experiment_id: str, run_id: str) -> None:
        query = f"tags.{ORIGIN_MODEL} = '{model.model_id}'"
        found = self.target.search_logged_models([experiment_id], query, max_results=1)
        if found:
            copy = found[0]
        else:
            tags = {name: value for name, value in model.tags.items() if not name.startswith("mlflow.")}
            tags[ORIGIN_MODEL] = model.model_id
            copy = self.target.create_logged_model(
                experiment_id, model.name, run_id, tags, model.params, model.model_type
            )
        if str(copy.status) != "READY":
            self.target.log_model_artifacts(copy.model_id, str(local(model.artifact_location)))
            self.target.finalize_logged_model(copy.model_id, "READY")
        self.models[model.model_id] = copy.model_id

    def _artifacts(self, uri: str, run_id: str) -> None:
        folder = local(uri)
        there = dict(listing(self.target, run_id))
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            name = path.relative_to(folder).as_posix()
            if path.is_file() and there.get(name) != path.stat().st_size:
                self.target.log_artifact(run_id, str(path), os.path.dirname(name) or None)


def local(uri: str) -> Path:
    """The artifact folder at `uri`: itself if it is on this machine, else a downloaded copy."""
    if uri.startswith("file:"):
        return Path(url2pathname(urlsplit(uri).path))
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))


def listing(client: mlflow.MlflowClient, run_id: str, below: str | None = None) -> Iterator[tuple[str, int]]:
    """Path and size in bytes of every artifact of a run."""
    for each in client.list_artifacts(run_id, below):
        if each.is_dir:
            yield from listing(client, run_id, each.path)
        else:
            yield each.path, int(each.file_size or 0)


def _parts(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
