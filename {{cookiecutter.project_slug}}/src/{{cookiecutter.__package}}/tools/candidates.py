"""Train candidates beside each other, and register the best one: the steps of a training, for an orchestrator."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from .. import metrics, problem
from ..base import params
from ..base.errors import Parser, UserError
from ..data import data_lock
from ..data.clean import clean, describe
from ..model import bundle, fetch
from ..pipeline import run, validate
from ..tracking import conventions, store
from ..training import recipe, train
from ..training.train import Sides

FOLDER = params.ROOT / ".cache" / "candidates"


def prepare(path: str = "") -> None:
    """Restore what `data.lock` lists, check the data against the rules, and open the store of runs.

    Candidates that begin at the same time would both create the store and write the report.

    Raises:
        UserError: the data are missing or unfit, or the store cannot be reached.
    """
    if data_lock.entries():
        print("\n".join(data_lock.restore_all()))
    name, raw = recipe.rows(params.load().data, path)
    dataset = clean(name, raw)
    print("\n".join(describe(dataset)))
    validate.require(dataset, raw, validate.Validation.load())
    with store.errors():
        store.connect()
        conventions.experiment()
    print("fit to train on (reports/data.html)")


def candidate(estimator: str, path: str = "") -> dict[str, Any]:
    """Train one estimator on `path`, else on the data of params.toml; returns its run and its metric.

    Raises:
        UserError: the training failed, or the tracking server did not receive the model.
    """
    settings = params.load()
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"estimator": estimator})})
    dataset = clean(*recipe.rows(settings.data, path))
    trained = train.train(dataset, settings, FOLDER / estimator)
    if not trained.model_uri:
        raise UserError("the tracking server did not receive the model: run it again")
    return {"run_id": trained.run_id, "estimator": estimator, problem.METRIC: trained.card["metrics"][problem.METRIC]}


def register(runs: list[str], path: str = "", folder: Path = params.ROOT) -> str:
    """Run the other steps of a pipeline on the best of some runs; returns the number of the registered version.

    Raises:
        UserError: the runs cannot be compared, or the gate refused the best one.
    """
    return run.run(path, folder, fit=partial(best, runs))


def best(runs: list[str], sides: Sides, settings: params.Params, output: Path, say: train.Say) -> conventions.Run:
    """The best of some runs, in place of a training: its bundle is written to `output`.

    Raises:
        UserError: a run has no model, or was trained on other data.
    """
    wanted = conventions.tags(sides.older, sides.newest)["data_fingerprint"]
    bundles = [bundle.read(fetch.folder(f"runs:/{each}/model")) for each in runs]
    for each in bundles:
        score = each.card["metrics"][problem.METRIC]
        say(f"{each.card['estimator']}: {problem.METRIC} {score:.4f} (run {each.card['run_id'][:8]})")
        if each.card["data"]["fingerprint"] != wanted:
            raise UserError(f"run {each.card['run_id']} was trained on other data: train all candidates again")
    found = min(bundles, key=lambda each: metrics.loss(problem.METRIC, each.card["metrics"][problem.METRIC]))
    say(f"{found.card['estimator']} is the best")
    bundle.write(found, output)
    run_id = found.card["run_id"]
    with store.errors():
        (model,) = store.connect().search_logged_models([conventions.experiment()], f"source_run_id = '{run_id}'")
    return conventions.Run(run_id, str(model.model_uri), output, found.card)


def main() -> None:
    """Prepare the data, train one candidate, or register the best of several; with --json the result is the last line."""
    parser = Parser(prog="candidates", description=main.__doc__)
    parser.add_argument("action", choices=["prepare", "train", "register"])
    parser.add_argument("--data", default="", help="Parquet or CSV file or URL; all candidates need the same")
    parser.add_argument("--estimator", default="", help="to train, instead of the one of params.toml")
    parser.add_argument("--run", action="append", default=[], help="a candidate's run; once for each candidate")
    parser.add_argument("--json", action="store_true", help="end with a line for a program")
    given = parser.parse_args()
    if given.action == "prepare":
        prepare(given.data)
        return
    if given.action == "train":
        told = candidate(given.estimator or params.load().model.estimator, given.data)
    elif given.run:
        told = {"version": register(given.run, given.data)}
    else:
        raise UserError("which candidates? register --run <id> --run <id>, as `candidates train` prints them")
    if given.json:
        print(json.dumps(told))
