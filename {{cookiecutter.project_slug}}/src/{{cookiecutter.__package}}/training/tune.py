"""Search for better parameters: trials that several processes share, and that resume after an interruption."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import tomlkit
from optuna.visualization import matplotlib as draw
from pydantic import Field
from sqlalchemy.exc import DBAPIError

from .. import estimators, metrics, problem
from ..base import params
from ..base.errors import Parser, UserError, near
from ..base.params import ROOT
from ..data.clean import Dataset, clean
from ..data.split import split
from ..tracking import conventions, training_run
from . import evaluate, recipe

COMPLETE, PRUNED = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED
FOLDS = 3
MOST_FAILED = 3
"""After this many trials that the estimator refused, without any that ended, the ranges must be wrong."""

HEARTBEAT_SECONDS = 20
"""A trial whose process has sent no heartbeat for three times this long counts as failed, and the others continue."""


class Tune(params.Section):
    """What `make tune` searches: `[low, high]`, `[low, high, "log"]` or a list of choices for each parameter."""

    table = "tune"
    space: dict[str, list[Any]] = Field(default_factory=dict)


def space(settings: params.Params) -> dict[str, Any]:
    """The parameters to search and their ranges: `[tune.space]` of params.toml, else the estimator's own.

    Raises:
        UserError: neither has any.
    """
    name = settings.model.estimator
    found = Tune.load().space or estimators.find(name).ranges
    if not found:
        raise UserError(f"params.toml: [tune.space] has no ranges for {name}, such as max_depth = [3, 10]")
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
    parameters = {settings.model.estimator: {**settings.model.parameters, **values}}
    return settings.model_copy(update={"model": params.Model(**{**settings.model.model_dump(), **parameters})})


def study(dataset: Dataset, settings: params.Params) -> optuna.Study:
    """The study of this data, estimator and space, with its earlier trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    (ROOT / ".cache").mkdir(exist_ok=True)
    # Everything that a trial's value depends on, so that a study never continues with trials of something else.
    fixed = settings.model_dump(exclude={"data": {"source", "sample_rows"}, "export": True})
    about = json.dumps([fixed, space(settings), problem.METRIC, folds()], sort_keys=True)
    matrix = hashlib.sha256(about.encode() + problem.features(dataset.columns).tobytes() + dataset.target.tobytes())
    kept = _store()
    name = f"{conventions.model_name()} {matrix.hexdigest()[:16]}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
    found = optuna.create_study(storage=kept, study_name=name, load_if_exists=True, pruner=pruner)
    # Two processes with the same seed would try the same parameters.
    found.sampler = optuna.samplers.TPESampler(seed=settings.data.seed + len(found.trials), constant_liar=True)
    return found


def folds() -> int:
    """The number of folds in which a trial is measured."""
    return int(evaluate.Evaluate.load().folds or FOLDS)


def _store() -> optuna.storages.RDBStorage:
    """Where trials are stored: `TUNE_STORAGE` for several machines (PostgreSQL), else an SQLite file."""
    address = os.environ.get("TUNE_STORAGE") or f"sqlite:///{(ROOT / '.cache' / 'tune.db').as_posix()}"
    options = {"connect_args": {"timeout": 60}} if address.startswith("sqlite") else None
    beats: dict[str, Any] = {"heartbeat_interval": HEARTBEAT_SECONDS, "grace_period": 3 * HEARTBEAT_SECONDS}
    reason: object = ""
    # If processes start together, all of them create the tables; the slower ones find some there.
    for _ in range(5):
        try:
            return optuna.storages.RDBStorage(address, engine_kwargs=options, **beats)
        except ImportError:
            raise UserError("TUNE_STORAGE needs a driver: make add PACKAGE='psycopg[binary]', or unset it") from None
        except DBAPIError as error:
            reason = error.orig
            time.sleep(1)
    raise UserError(f"the store of trials cannot be used ({' '.join(str(reason).split())[:200]}): check TUNE_STORAGE")


def search(dataset: Dataset, settings: params.Params, trials: int, timeout: float | None) -> optuna.Study:
    """Try parameters until the study has `trials` that ended, or for `timeout` seconds; each is an MLflow run.

    A trial's value is the mean loss over the folds of the older rows; one that is worse than the median of the others
    so far is stopped early. The validation rows are not used.

    Raises:
        UserError: no trial has ended, or a range is for a parameter that the estimator does not have.
    """
    older, _ = split(dataset, settings.data.validation_share, settings.data.seed)
    found, ranges = study(dataset, settings), space(settings)
    unknown = set(ranges) - (known := estimators.known(settings.model.estimator))
    for name in sorted(unknown):
        raise UserError(
            f"params.toml [tune.space]: {settings.model.estimator} has no parameter {name!r}{near(name, known)}"
        )
    tags = {**conventions.code_tags(), "study": found.study_name, "estimator": settings.model.estimator}

    failed: list[UserError] = []

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        said = "stopped early" if trial.value is None else f"{problem.METRIC} {_metric(trial.value):.4f}"
        if trial.state == optuna.trial.TrialState.FAIL:
            said = f"failed: {failed[-1]}"
            if len(failed) > MOST_FAILED and not _ended(study, COMPLETE, PRUNED):
                study.stop()
        if _ended(study, COMPLETE):
            said += f" (best {_metric(study.best_value):.4f} by trial {study.best_trial.number + 1})"
        print(f"trial {trial.number + 1} of {trials}: {said}", flush=True)

    with training_run.run(tags, "tune"):

        def attempt(trial: optuna.Trial) -> float:
            try:
                return measured(trial)
            except UserError as error:
                failed.append(error)
                raise

        def measured(trial: optuna.Trial) -> float:
            values = suggest(trial, ranges)
            with mlflow.start_run(nested=True, run_name=f"trial {trial.number + 1}"):
                mlflow.log_params(values)
                losses: list[float] = []
                for fold, scores in enumerate(evaluate.each_fold(older, changed(settings, values), folds())):
                    losses.append(metrics.loss(problem.METRIC, scores[problem.METRIC]))
                    trial.report(float(np.mean(losses)), fold)
                    if trial.should_prune():
                        raise optuna.TrialPruned
                mlflow.log_metric(f"cv_{problem.METRIC}", _metric(float(np.mean(losses))))
            return float(np.mean(losses))

        if ended := _ended(found, COMPLETE, PRUNED):
            print(f"continuing after {ended} trials")
        if ended < trials:
            enough = optuna.study.MaxTrialsCallback(trials, states=(COMPLETE, PRUNED))
            found.optimize(attempt, timeout=timeout, callbacks=[enough, tell], catch=(UserError,))
        if failed and not _ended(found, COMPLETE):
            raise failed[-1]
        if not _ended(found, COMPLETE):
            raise UserError("no trial has ended: give it more TIMEOUT, or look at the ranges of [tune.space]")
        mlflow.log_params({f"best.{name}": value for name, value in found.best_params.items()})
        mlflow.log_metric(f"cv_{problem.METRIC}", _metric(found.best_value))
        for name, figure in plots(found).items():
            mlflow.log_figure(figure, f"plots/{name}.png")
    return found


def _metric(loss: float) -> float:
    return metrics.loss(problem.METRIC, loss)


def _ended(study: optuna.Study, *states: optuna.trial.TrialState) -> int:
    return len(study.get_trials(deepcopy=False, states=states))


def plots(found: optuna.Study) -> dict[str, Any]:
    """The loss over time, and which parameters mattered (fANOVA, Hutter et al. 2014)."""
    drawn = {"history": draw.plot_optimization_history(found).figure}
    if len({trial.value for trial in found.get_trials(states=[COMPLETE])}) > 3:
        drawn["importance"] = draw.plot_param_importances(found).figure
    return drawn


def apply(values: Mapping[str, Any], settings: params.Params, path: Path = ROOT / "params.toml") -> str:
    """Write the values to the estimator's table of params.toml, leaving the rest unchanged; returns the difference."""
    before = path.read_text(encoding="utf-8")
    document = tomlkit.parse(before)
    model = document.setdefault("model", tomlkit.table())
    table = model.setdefault(settings.model.estimator, tomlkit.table())
    for name, value in values.items():
        table[name] = float(f"{value:.5g}") if isinstance(value, float) else value
    after = tomlkit.dumps(document)
    partial = path.with_suffix(".partial")
    partial.write_text(after, encoding="utf-8")
    params.load(partial)
    partial.replace(path)
    return "\n".join(
        difflib.unified_diff(before.splitlines(), after.splitlines(), "params.toml", "params.toml", lineterm="", n=0)
    )


def main() -> None:
    """`make tune`: search until there are TRIALS, or for TIMEOUT seconds; after an interruption it resumes."""
    parser = Parser(prog="make tune", description=main.__doc__)
    parser.add_argument("--data", default="", help="file, folder or URL (make tune DATA=...)")
    parser.add_argument("--trials", type=int, default=30, help="how many trials in all (TRIALS=100)")
    parser.add_argument("--timeout", type=float, default=None, help="seconds for this process (TIMEOUT=600)")
    parser.add_argument("--apply", action="store_true", help="write the best parameters to params.toml (APPLY=1)")
    given = parser.parse_args()
    settings = params.load()
    dataset = clean(*recipe.rows(settings.data, given.data))
    started = time.perf_counter()
    found = search(dataset, settings, given.trials, given.timeout)
    best = _metric(found.best_value)
    print(
        f"best {problem.METRIC} {best:.4f} over the folds, after {time.perf_counter() - started:.0f} s: {found.best_params}"
    )
    if given.apply:
        print(apply(found.best_params, settings))
    else:
        print("write them to params.toml: make tune APPLY=1")
