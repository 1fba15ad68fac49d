"""Search for better parameters: trials that several processes share, resumed where they were stopped."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import time
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import sqlalchemy.exc
from matplotlib.figure import Figure

from . import data, evaluate, metrics, outbox, params, problem, tracking
from .cli import UserError
from .data import Dataset
from .estimators import SPACES
from .params import ROOT

FOLDS = 3
HEARTBEAT_SECONDS = 20
"""A trial whose process has not been heard of for three times as long counts as failed, and the others go on."""


def storage() -> str:
    """Where trials are kept: `TUNE_STORAGE` for several machines (PostgreSQL), else an SQLite file."""
    return os.environ.get("TUNE_STORAGE") or f"sqlite:///{(ROOT / '.cache' / 'tune.db').as_posix()}"


def space(settings: params.Params) -> dict[str, Any]:
    """The parameters to search and their ranges: `[tune.space]` of params.toml, else the estimator's own.

    Raises:
        UserError: neither knows any.
    """
    found = settings.tune.space or SPACES.get(settings.model.estimator, {})
    if not found:
        raise UserError(
            f"params.toml: [tune.space] has no ranges for {settings.model.estimator}, such as max_depth = [3, 10]"
        )
    return dict(found)


def suggest(trial: optuna.Trial, ranges: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each parameter: `[low, high]`, `[low, high, "log"]`, or a list of choices."""
    found = {}
    for name, given in ranges.items():
        low, high, *kind = given if len(given) > 1 else (*given, *given)
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
        if not numbers or (kind and kind != ["log"]):
            found[name] = trial.suggest_categorical(name, list(given))
        elif isinstance(low, int) and isinstance(high, int):
            found[name] = trial.suggest_int(name, low, high, log=bool(kind))
        else:
            found[name] = trial.suggest_float(name, low, high, log=bool(kind))
    return found


def changed(settings: params.Params, values: Mapping[str, Any]) -> params.Params:
    """The settings with other parameters for their estimator."""
    table = "sklearn" if "." in settings.model.estimator else settings.model.estimator
    model = settings.model.model_copy(update={table: {**evaluate.settings_of(settings), **values}})
    return settings.model_copy(update={"model": model})


def study(dataset: Dataset, settings: params.Params) -> optuna.Study:
    """The study of this data, estimator and space; what was tried before is in it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    (ROOT / ".cache").mkdir(exist_ok=True)
    about = json.dumps([dataset.fingerprint, settings.model.estimator, space(settings), problem.METRIC], sort_keys=True)
    kept = _store()
    name = f"{tracking.model_name()} {zlib.crc32(about.encode()):08x}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    found = optuna.create_study(storage=kept, study_name=name, load_if_exists=True, pruner=pruner)
    # Two processes that drew by the same seed would try the same.
    found.sampler = optuna.samplers.TPESampler(seed=settings.data.seed + len(found.trials), constant_liar=True)
    return found


def _store() -> optuna.storages.RDBStorage:
    options = {"connect_args": {"timeout": 60}} if storage().startswith("sqlite") else None
    beats: dict[str, Any] = {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": 3 * HEARTBEAT_SECONDS}
    reason: object = ""
    # Of processes that begin together, all make the tables; the slower ones find some there.
    for _ in range(5):
        try:
            return optuna.storages.RDBStorage(storage(), engine_kwargs=options, **beats)
        except ImportError:
            raise UserError(
                'TUNE_STORAGE needs a database driver that is not here: name psycopg = {extras = ["binary"]} in Pipfile, or '
                "leave the variable out"
            ) from None
        except sqlalchemy.exc.DBAPIError as error:
            reason = error.orig
            time.sleep(1)
    raise UserError(f"the store of trials cannot be used ({' '.join(str(reason).split())[:200]}): check TUNE_STORAGE")


def search(dataset: Dataset, settings: params.Params, trials: int, timeout: float | None) -> optuna.Study:
    """Try parameters until the study has `trials` that ended, or for `timeout` seconds; each is an MLflow run.

    A trial's value is the mean loss over the folds of the older rows; one that is worse than the median of the others
    so far is given up early. The validation rows are not looked at.
    """
    older, _ = data.split(dataset, settings.data.validation_share, settings.data.seed)
    folded = settings.model_copy(
        update={"data": settings.data.model_copy(update={"folds": settings.data.folds or FOLDS})}
    )
    found, ranges = study(dataset, settings), space(settings)
    parent = _parent(found, settings)

    def attempt(trial: optuna.Trial) -> float:
        values = suggest(trial, ranges)
        with mlflow.start_run(nested=True, parent_run_id=parent, run_name=f"trial {trial.number}"):
            mlflow.log_params(values)
            losses = []
            for fold, scores in enumerate(evaluate.each_fold(older, changed(folded, values))):
                losses.append(metrics.loss(problem.METRIC, scores[problem.METRIC]))
                trial.report(float(np.mean(losses)), fold)
                if trial.should_prune():
                    raise optuna.TrialPruned
            mlflow.log_metric(f"cv_{problem.METRIC}", metrics.loss(problem.METRIC, float(np.mean(losses))))
        return float(np.mean(losses))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        said = (
            "given up early"
            if trial.value is None
            else f"{problem.METRIC} {metrics.loss(problem.METRIC, trial.value):.4f}"
        )
        best = (
            f" (best {metrics.loss(problem.METRIC, study.best_value):.4f} by trial {study.best_trial.number})"
            if _done(study)
            else ""
        )
        print(f"trial {trial.number + 1} of {trials}: {said}{best}", flush=True)

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    ended = sum(trial.state in states for trial in found.trials)
    if ended:
        print(f"going on after {ended} trials")
    if ended < trials:
        enough = optuna.study.MaxTrialsCallback(trials, states=states)
        with tracking.errors():
            found.optimize(attempt, timeout=timeout, callbacks=[enough, tell], catch=(UserError,))
    if not _done(found):
        raise UserError("no trial has ended: give it more TIMEOUT, or look at the ranges of [tune.space]")
    with tracking.errors(), mlflow.start_run(run_id=parent):
        mlflow.log_params({f"best.{name}": value for name, value in found.best_params.items()})
        mlflow.log_metric(f"cv_{problem.METRIC}", metrics.loss(problem.METRIC, found.best_value))
        for name, figure in plots(found).items():
            mlflow.log_figure(figure, f"plots/{name}.png")
    return found


def _done(study: optuna.Study) -> bool:
    return any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials)


def _parent(found: optuna.Study, settings: params.Params) -> str:
    """The run that the trials of a study are children of: one for each process that works on it."""
    tags = {**tracking.code_tags(), "study": found.study_name, "estimator": settings.model.estimator}
    client = tracking.connect() if tracking.is_local() else outbox.connect()
    with tracking.errors():
        mlflow.set_experiment(experiment_id=tracking.experiment())
        run_id = str(client.create_run(tracking.experiment(), tags=tags, run_name="tune").info.run_id)
    if not tracking.is_local():
        outbox.announce(run_id, tags)
    return run_id


def plots(found: optuna.Study) -> dict[str, Figure]:
    """The loss over time, and which parameters mattered (fANOVA, Hutter et al. 2014)."""
    ended = [
        trial for trial in found.trials if trial.value is not None and trial.state == optuna.trial.TrialState.COMPLETE
    ]
    history = Figure(figsize=(7, 4), layout="constrained")
    axes = history.subplots()
    values = [float(trial.value or 0.0) for trial in ended]
    axes.plot([trial.number for trial in ended], values, ".", label="trial")
    axes.plot([trial.number for trial in ended], np.minimum.accumulate(values), label="best so far")
    axes.set(xlabel="trial", ylabel=f"loss ({problem.METRIC})")
    axes.legend()
    drawn = {"history": history}
    if len(ended) > 3 and len(set(values)) > 1:
        weights = optuna.importance.get_param_importances(found)
        importance = Figure(figsize=(7, 4), layout="constrained")
        axes = importance.subplots()
        axes.barh(list(weights)[::-1], list(weights.values())[::-1])
        axes.set(xlabel="share of what the loss depends on")
        drawn["importance"] = importance
    return drawn


def apply(values: Mapping[str, Any], settings: params.Params, path: Path = ROOT / "params.toml") -> str:
    """Write the values into the estimator's table of params.toml, and leave the rest as it is; gives the difference."""
    table = "sklearn" if "." in settings.model.estimator else settings.model.estimator
    before = path.read_text(encoding="utf-8")
    left = {name: float(f"{value:.5g}") if isinstance(value, float) else value for name, value in values.items()}
    lines, inside = [], False
    for line in before.splitlines():
        header = re.match(r"\s*\[([^\]]+)\]", line)
        if inside and (header or not line.strip()):
            lines += [f"{name} = {json.dumps(value)}" for name, value in left.items()]
            left, inside = {}, False
        if header:
            inside = header[1].strip() == f"model.{table}"
        setting = re.match(r"\s*([\w-]+)(\s*=\s*)[^#]*?(\s*(?:#.*)?)$", line)
        if inside and setting and setting[1] in left:
            line = f"{setting[1]}{setting[2]}{json.dumps(left.pop(setting[1]))}{setting[3]}"
        lines.append(line)
    if inside:
        lines += [f"{name} = {json.dumps(value)}" for name, value in left.items()]
    after = "\n".join(lines) + "\n"
    partial = path.with_suffix(".partial")
    partial.write_text(after, encoding="utf-8")
    params.load(partial)
    partial.replace(path)
    return "\n".join(
        difflib.unified_diff(before.splitlines(), after.splitlines(), "params.toml", "params.toml", lineterm="", n=0)
    )


def main() -> None:
    """`make tune`: search until there are TRIALS, or for TIMEOUT seconds; stopped, it goes on where it was."""
    parser = argparse.ArgumentParser(prog="make tune", description=main.__doc__)
    parser.add_argument("--data", default="", help="Parquet or CSV file or URL (make tune DATA=...)")
    parser.add_argument("--trials", type=int, default=30, help="how many trials in all (TRIALS=100)")
    parser.add_argument("--timeout", type=float, default=None, help="seconds for this process (TIMEOUT=600)")
    parser.add_argument("--apply", action="store_true", help="write the best parameters to params.toml (APPLY=1)")
    given = parser.parse_args()
    settings = params.load()
    dataset = data.load(settings.data, given.data)
    started = time.perf_counter()
    try:
        found = search(dataset, settings, given.trials, given.timeout)
    finally:
        if not tracking.is_local():
            outbox.deliver_all()
    best = metrics.loss(problem.METRIC, found.best_value)
    print(
        f"best {problem.METRIC} {best:.4f} over the folds, after {time.perf_counter() - started:.0f} s: {found.best_params}"
    )
    if given.apply:
        print(apply(found.best_params, settings))
    else:
        print("write them to params.toml: make tune APPLY=1")
