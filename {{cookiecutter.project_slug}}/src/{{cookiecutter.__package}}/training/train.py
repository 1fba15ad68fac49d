"""Train a model: data in, one MLflow run and one bundle out."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
from numpy.typing import NDArray

from .. import estimators, metrics, problem
from ..base import params
from ..base.errors import Parser
from ..data.clean import Dataset, clean, describe
from ..data.split import split
from ..model import bundle
from ..model.bundle import Bundle
from ..model.predictor import Predictor
from ..tracking import conventions, store, training_run
from ..tracking.conventions import Run
from . import export, recipe

Say = Callable[[str], None]
PART = 50_000
"""The validation rows that one core scores at a time."""


class Sides(NamedTuple):
    """Training rows and validation rows, what fits an estimator on the former, and the name of that engine."""

    older: Dataset
    newest: Dataset
    fit: Callable[[NDArray[np.float32], NDArray[np.float64], params.Params], Any] = estimators.fit
    engine: str = "memory"


def opened(engine: str, settings: params.Params, source: str, say: Say = print) -> AbstractContextManager[Sides]:
    """The rows of `source`, else of params.toml or of the generated sample, as an engine holds them; describes them.

    Raises:
        UserError: they cannot be read, too few are usable, or the engine cannot fit the estimator.
    """
    if engine != "memory":
        held = importlib.import_module(f".{engine}", __package__)
        return held.sides(settings, source, say)  # type: ignore[no-any-return]
    dataset = clean(*recipe.rows(settings.data, source))
    for line in describe(dataset):
        say(line)
    return nullcontext(Sides(*split(dataset, settings.data.validation_share, settings.data.seed)))


def train(dataset: Dataset, settings: params.Params, output: Path, say: Say = print) -> Run:
    """Split the rows and `train_on` them.

    Raises:
        UserError: too few rows, a bad setting, or a bundle that differs from its estimator.
    """
    return train_on(Sides(*split(dataset, settings.data.validation_share, settings.data.seed)), settings, output, say)


def train_on(sides: Sides, settings: params.Params, output: Path, say: Say = print) -> Run:
    """Fit on the older rows, measure on the newest, write the bundle to `output` and log one MLflow run.

    Raises:
        UserError: as `train`.
    """
    older, newest = sides.older, sides.newest
    since = f" from {newest.span[0][:10]} on" if problem.TIME else ""
    say(f"{older.rows:,} rows to train on, {newest.rows:,}{since} to validate with")
    name = f"{settings.model.estimator} on {Path(older.name).name}"
    tags = conventions.tags(older, newest) | {"engine": sides.engine}
    with training_run.run(tags, name) as run:
        conventions.log_inputs(older, newest, settings)
        features = problem.features(older.columns)
        started = time.perf_counter()
        estimator = sides.fit(features, older.target, settings)
        say(f"fitted {settings.model.estimator} in {time.perf_counter() - started:.1f} s")
        content, kept = export.export(estimator, settings, say)
        built = Bundle(content, card(run.run_id, tags, older, newest, settings) | kept)
        predictor = Predictor(built)
        built.card["golden"] = predictor.golden()
        matrix = problem.features(newest.columns)
        # The same parts on every machine: how many cores there are may not change the last digit.
        parts = [matrix[first : first + PART] for first in range(0, len(matrix), PART)]
        with ThreadPoolExecutor() as pool:
            scores = np.concatenate(list(pool.map(predictor.of_features, parts)))
        expected = export.scores(estimator, matrix)
        difference = export.check_parity(expected, scores, settings.export.tolerance)
        measured = predictor.measured(newest.columns, scores)
        # The exported model gives the same scores, as just checked; the estimator is faster on many rows.
        seen = predictor.measured(older.columns, export.scores(estimator, features))
        built.card.update(recipe.measure(older, newest, seen, measured, settings))
        built = recipe.enclose(built, predictor, older, features, seen)
        for line in verdict(built.card):
            say(line)
        say(f"exported as {kept['file']}; its scores differ by at most {difference:.1g} {problem.UNIT}".rstrip())
        run.model_uri = log(built, recipe.draw(estimator, newest, measured, built.card), newest)
    bundle.write(built, output)
    run.folder, run.card = output, built.card
    return run


def verdict(card: dict[str, Any]) -> Iterator[str]:
    """Lines to print: the metric, its uncertainty, and whether the model is better than the baseline."""
    name, unit = problem.METRIC, f" {problem.UNIT}" if problem.UNIT else ""
    score, baseline = card["metrics"][name], card["metrics"][f"baseline_{name}"]
    low, high = card.get("intervals", {}).get(name, (None, None))
    sure = "" if low is None else f" (95 %: {low:.4f} to {high:.4f})"
    yield f"{name} {score:.4f}{unit} on the validation rows{sure}; without a model: {baseline:.4f}"
    if "conformal" in card:
        inside, wide = card["metrics"]["interval_coverage"], card["conformal"]["wide"]
        yield f"{inside:.1%} of the truths are inside their answer's interval ({wide} on average)"
    if not metrics.loss(name, score) < metrics.loss(name, baseline):
        yield "warning: that is no better than no model at all; do not serve it"


def card(run_id: str, tags: dict[str, str], older: Dataset, newest: Dataset, settings: params.Params) -> dict[str, Any]:
    """The bundle's description of its origin, its data and its inputs."""
    return {
        "name": conventions.model_name(),
        "run_id": run_id,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "team": tags["team"],
        "git_commit": tags["git_commit"],
        "lock_fingerprint": tags["lock_fingerprint"],
        "estimator": settings.model.estimator,
        "data": {
            "name": older.name,
            "fingerprint": tags["data_fingerprint"],
            "span": tags["data_span"],
            "train_rows": older.rows,
            "validation_rows": newest.rows,
            "dropped": older.dropped,
        },
        "features": list(problem.FEATURES),
        "task": problem.TASK,
        "classes": metrics.classes(older.target) if problem.TASK != "regression" else 1,
        "decision": settings.decision,
        "record": problem.Record.model_json_schema(),
        "code": bundle.code_digest(params.PACKAGE),
    }


def log(built: Bundle, figures: dict[str, Any], newest: Dataset) -> str:
    """Log metrics, figures and the bundle to the active run; returns the model's URI."""
    import pandas as pd
    from mlflow.models import ModelSignature, infer_signature

    with store.errors():
        ends = built.card.get("intervals", {}).items()
        sure = {f"{name}_{end}": value for name, pair in ends for end, value in zip(("low", "high"), pair, strict=True)}
        mlflow.log_metrics(built.card["metrics"] | sure)
        mlflow.set_tag("mlflow.note.content", "\n\n".join(verdict(built.card)))
        for name, figure in figures.items():
            mlflow.log_figure(figure, f"plots/{name}")
        example = pd.DataFrame(dict(newest.take(slice(2)).columns))
        with tempfile.TemporaryDirectory() as scratch:
            bundle.write(built, Path(scratch) / "model")
            model = recipe.loader._load_pyfunc(f"{scratch}/model")
            answers = infer_signature(example, model.predict(example)).outputs
            info = mlflow.pyfunc.log_model(
                name="model",
                loader_module=recipe.loader.__name__,
                data_path=str(Path(scratch) / "model"),
                code_paths=[str(params.PACKAGE)],
                pip_requirements=conventions.requirements(built.file),
                signature=ModelSignature(conventions.record_schema(), answers),
                input_example=example,
                metadata={"run_id": built.card["run_id"]},
            )
    return str(info.model_uri)


def main() -> None:
    """`make train`: train on DATA or on the generated sample."""
    parser = Parser(prog="make train", description=main.__doc__)
    parser.add_argument("--data", default="", help="a data file or folder (make train DATA=...)")
    parser.add_argument("--output", type=Path, default=params.ROOT / "model", help="folder for the bundle")
    parser.add_argument("--engine", choices=recipe.ENGINES, default=recipe.ENGINES[0], help="where the rows are held")
    given = parser.parse_args()
    settings = params.load()
    with opened(given.engine, settings, given.data) as sides:
        trained = train_on(sides, settings, given.output)
    print(f"run {trained.run_id} (look at it: {conventions.look()})")
