"""Automated training in one command: data, validate, train, gate, register; each step named and timed."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow

from ..base import params, reports
from ..base.errors import UserError
from ..data import clean, data_lock
from ..data.split import split
from ..model import bundle, fetch
from ..model.bundle import MismatchError
from ..model.predictor import Predictor
from ..registry import model_card, versions
from ..tracking import store
from ..training import train
from . import gate, validate


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print the name, and once it is done the seconds that it took."""
    started = time.perf_counter()
    print(f"[{name}]", flush=True)
    yield
    print(f"  {name} took {time.perf_counter() - started:.1f} s", flush=True)


def say(line: str) -> None:
    """Print a line of a step."""
    print(f"  {line}", flush=True)


def run(path: str = "", folder: Path = params.ROOT) -> str:
    """Run every step on `path`, else on what params.toml names; gives the number of the registered version.

    Reports go to `reports` in `folder`, the model to `model`.

    Raises:
        UserError: the data are unfit, the training failed, or the gate refused the model; nothing is registered then.
    """
    settings = params.load()
    with step("data"):
        name, raw = data_lock.rows(settings.data, path)
        dataset = clean.clean(name, raw)
        say("\n  ".join(clean.describe(dataset)))
    with step("validate"):
        champion, instead = _champion()
        known = champion.card.get("distribution", {}) if champion else {}
        report = validate.require(dataset, raw, validate.Validation.load(), known, folder / "reports")
        say("fit to train on (reports/data.html)")
    with step("train"):
        trained = train.train(dataset, settings, folder / "model", say)
        if not trained.model_uri:
            raise UserError("the tracking server has not got the model, so none is registered: run it again")
    with step("gate"):
        _, newest = split(dataset, settings.data.validation_share, settings.data.seed)
        say(gate.require(trained.card, champion, newest, gate.Gate.load(), instead))
    with step("register"):
        text = model_card.markdown(trained.card, report)
        with store.errors():
            client = mlflow.MlflowClient()
            for file in reports.write(folder / "reports", "model-card", trained.card["name"], text):
                client.log_artifact(trained.run_id, str(file))
            at = f"#/experiments/{client.get_run(trained.run_id).info.experiment_id}/runs/{trained.run_id}/artifacts"
            told = [*train.verdict(trained.card), f"[Model card]({at}/model-card.html)"]
            client.set_tag(trained.run_id, "mlflow.note.content", "\n\n".join(told))
        version, first = versions.register(trained.model_uri, trained.run_id, text)
        alias = "champion" if first else "challenger"
        say(f"{version.name} version {version.version} is {alias} (reports/model-card.html)")
    return str(version.version)


def _champion() -> tuple[Predictor | None, str]:
    """The champion, or why a model is not compared with one: there is none, or this code has moved on from it.

    Raises:
        ModelError: there is one and it cannot be fetched or loaded; that is no reason to do without the comparison.
    """
    version = versions.champion()
    if version is None:
        return None, "there is no champion yet"
    try:
        return Predictor(bundle.read(fetch.folder(f"models:/{version.name}/{version.version}"))), ""
    except MismatchError as error:
        return None, f"champion {version.version} cannot be compared: {error}"


def main() -> None:
    """`make pipeline`: train on DATA or on the generated sample, and register what passes the gate."""
    parser = argparse.ArgumentParser(prog="make pipeline", description=main.__doc__)
    parser.add_argument("--data", default="", help="Parquet or CSV file or URL (make pipeline DATA=...)")
    version = run(parser.parse_args().data)
    champion = versions.champion()
    if champion is None or str(champion.version) != version:
        print(f"it serves once it is promoted: make promote VERSION={version}")
