"""Train a model: data in, one MLflow run and one packaged model out."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from numpy.typing import NDArray

from . import data, drift, evaluate, export, leaves, metrics, package, params, plots, problem, runs, tracking
from .data import Dataset
from .predictor import Predictor

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """What a training leaves behind; without `model_uri` its run still waits in the outbox."""

    run_id: str
    model_uri: str
    folder: Path
    card: dict[str, Any]


def train(dataset: Dataset, settings: params.Params, output: Path, say: Say = print) -> Trained:
    """Fit on the older rows, measure on the newest, write the package to `output` and log one MLflow run.

    Raises:
        UserError: too few rows, a bad setting, or a package that differs from its estimator.
    """
    older, newest = data.split(dataset, settings.data.validation_share, settings.data.seed)
    since = f" from {newest.span[0][:10]} on" if problem.TIME else ""
    say(f"{len(older):,} rows to train on, {len(newest):,}{since} to validate with")
    with runs.run(older, newest, settings) as run:
        features = problem.features(older.columns)
        started = time.perf_counter()
        estimator = evaluate.fit(features, older.target, settings)
        say(f"fitted {settings.model.estimator} in {time.perf_counter() - started:.1f} s")
        content, kept = export.export(estimator, settings.package.format, say)
        card = describe(run.id, older, newest, features, settings) | kept
        built = package.Package(content, card)
        predictor = Predictor(built)
        card |= evaluate.evaluate(predictor, older, newest, settings.data.seed)
        card["metrics"] |= evaluate.folds(older, settings)
        explainer, card["explanation"] = leaves.explained(built, features, predictor.of_features)
        built = package.Package(content, card, explainer)
        matrix = problem.features(newest.columns)
        scores = predictor.scores(newest.columns)
        difference = export.check_parity(export.scores(estimator, matrix), scores, settings.package.tolerance)
        for line in verdict(card):
            say(line)
        say(f"packaged as {card['file']}; it agrees with the estimator to {difference:.1g} {problem.UNIT}".rstrip())
        figures = plots.all_plots(newest.target, evaluate.measured(predictor, newest.columns), matrix, estimator)
        run.model_uri = log(built, figures, newest)
    package.write(built, output)
    return Trained(run.id, run.model_uri, output, card)


def verdict(card: dict[str, Any]) -> Iterator[str]:
    """Lines for a person: the metric, how sure it is, and whether the model is worth having."""
    name, unit = problem.METRIC, f" {problem.UNIT}" if problem.UNIT else ""
    score, baseline = card["metrics"][name], card["metrics"][f"baseline_{name}"]
    low, high = card["intervals"][name]
    yield f"{name} {score:.4f}{unit} on the validation rows ({low:.4f} to {high:.4f}); without a model: {baseline:.4f}"
    if not evaluate.beats_baseline(card):
        yield "warning: that is no better than no model at all; do not serve it"


def describe(
    run_id: str, older: Dataset, newest: Dataset, features: NDArray[np.float32], settings: params.Params
) -> dict[str, Any]:
    """The model's card without its metrics: origin, data, inputs and what the training data looked like."""
    tags = tracking.tags(older, newest)
    return {
        "name": tracking.model_name(),
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
            "train_rows": len(older),
            "validation_rows": len(newest),
            "dropped": older.dropped,
        },
        "features": list(problem.FEATURES),
        "target": {"name": problem.TARGET, "unit": problem.UNIT},
        "task": problem.TASK,
        "classes": metrics.classes(older.target) if problem.TASK != "regression" else 1,
        "decision": settings.decision,
        "record": problem.Record.model_json_schema(),
        "reference": {
            name: np.quantile(features[:, i], [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).round(4).tolist()
            for i, name in enumerate(problem.FEATURES)
        },
        "distribution": drift.reference(features),
    }


def log(built: package.Package, figures: dict[str, Any], newest: Dataset) -> str:
    """Log metrics, pictures and the packaged model to the active run; gives the model's URI."""
    import pandas as pd
    from mlflow.models import infer_signature

    from .pyfunc import Model

    with tracking.errors():
        ends = built.card["intervals"].items()
        sure = {f"{name}_{end}": value for name, pair in ends for end, value in zip(("low", "high"), pair, strict=True)}
        mlflow.log_metrics(built.card["metrics"] | sure)
        for name, figure in figures.items():
            mlflow.log_figure(figure, f"plots/{name}")
        example = pd.DataFrame(dict(newest.take(slice(2)).columns))
        answers = Model(Predictor(built)).predict(example)
        with tempfile.TemporaryDirectory() as scratch:
            package.write(built, Path(scratch) / "model")
            info = mlflow.pyfunc.log_model(
                name="model",
                loader_module=f"{__package__}.pyfunc",
                data_path=str(Path(scratch) / "model"),
                code_paths=[str(Path(__file__).parent)],
                pip_requirements=tracking.requirements(),
                signature=infer_signature(example, answers),
                input_example=example,
                metadata={"run_id": built.card["run_id"]},
            )
    return str(info.model_uri)


def main() -> None:
    """`make train`: train on DATA or on the generated sample."""
    parser = argparse.ArgumentParser(prog="make train", description=main.__doc__)
    parser.add_argument("--data", default="", help="Parquet or CSV file or URL (make train DATA=...)")
    parser.add_argument("--output", type=Path, default=params.ROOT / "model", help="folder for the packaged model")
    given = parser.parse_args()
    settings = params.load()
    dataset = data.load(settings.data, given.data)
    print("\n".join(data.describe(dataset)))
    trained = train(dataset, settings, given.output)
    print(f"run {trained.run_id} in experiment {tracking.experiment_name()} (look at it: {tracking.look()})")
