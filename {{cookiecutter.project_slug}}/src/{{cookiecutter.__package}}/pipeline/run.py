"""Automated training in one command: data, validate, train, gate, register; each step is named and timed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow

from ..base import params, reports
from ..base.errors import Parser, UserError
from ..data import clean, parts, schema, sources
from ..data.split import split
from ..registry import model_card, versions
from ..tracking import conventions, store
from ..training import recipe, train
from ..training.train import Sides
from . import gate, validate


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print the name of a step, and at its end the seconds it took."""
    started = time.perf_counter()
    print(f"[{name}]", flush=True)
    yield
    print(f"  {name} took {time.perf_counter() - started:.1f} s", flush=True)


def say(line: str) -> None:
    """Print a line of a step."""
    print(f"  {line}", flush=True)


def run(
    path: str = "",
    folder: Path = params.ROOT,
    engine: str = "memory",
    fit: Callable[..., conventions.Run] = train.train_on,
) -> str:
    """Run every step on `path`, else on the data of params.toml; returns the number of the registered version.

    Reports go to `reports` in `folder`, the model of `fit` to `model`. With another `engine` than `memory`, data and
    model are checked on a sample of the rows.

    Raises:
        UserError: the data are unfit, the training failed, or the gate refused the model; then nothing is registered.
    """
    with contextlib.ExitStack() as held:
        return _run(path, folder, engine, fit, held)


def _run(path: str, folder: Path, engine: str, fit: Callable[..., conventions.Run], held: contextlib.ExitStack) -> str:
    settings = params.load()
    with step("data"):
        if engine == "memory":
            name, raw = sources.rows(settings.data, path)
            dataset = clean.clean(name, raw)
            for line in clean.describe(dataset):
                say(line)
            sides = Sides(*split(dataset, settings.data.validation_share, settings.data.seed))
        else:
            sides = held.enter_context(train.opened(engine, settings, path, say))
            dataset = parts.both(sides.older, sides.newest)
            raw = {**dataset.columns, schema.TRUE: dataset.target}
    with step("validate"):
        champion = versions.loaded()
        known = champion.model.card if champion.model else {}
        report = validate.require(dataset, raw, validate.Validation.load(), known, folder / "reports")
        say("fit to train on (reports/data.html)")
    with step("train"):
        trained = fit(sides, settings, folder / "model", say)
        if not trained.model_uri:
            raise UserError("the tracking server did not receive the model, so none is registered: run it again")
    with step("gate"):
        judged = gate.judge(trained, champion, sides.newest, settings)
        say("\n  ".join(judged.lines))
    with step("register"):
        text = model_card.markdown(trained.card, report + judged.report)
        with store.errors():
            client = mlflow.MlflowClient()
            drawn = model_card.pictures(trained.run_id)
            for file in reports.write(folder / "reports", "model-card", trained.card["name"], text, drawn):
                client.log_artifact(trained.run_id, str(file))
            at = f"#/experiments/{client.get_run(trained.run_id).info.experiment_id}/runs/{trained.run_id}/artifacts"
            told = [*train.verdict(trained.card), f"[Model card]({at}/model-card.html)"]
            client.set_tag(trained.run_id, "mlflow.note.content", "\n\n".join(told))
        version, first = versions.register(trained.model_uri, trained.run_id, text)
        alias = "champion" if first else "challenger"
        say(f"{version.name} version {version.version} is {alias} (reports/model-card.html)")
        for line in () if first else gate.follow_up(str(version.version), judged):
            say(line)
    return str(version.version)


def main() -> None:
    """`make pipeline`: train on DATA or on the generated sample, and register what passes the gate."""
    parser = Parser(prog="make pipeline", description=main.__doc__)
    parser.add_argument("--data", default="", help="file, folder or URL (make pipeline DATA=...)")
    parser.add_argument("--engine", choices=recipe.ENGINES, default=recipe.ENGINES[0], help="where the rows are held")
    given = parser.parse_args()
    run(given.data, engine=given.engine)
