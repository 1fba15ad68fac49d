"""Train a model: data in, one MLflow run and one packaged model out."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from numpy.typing import NDArray

from . import data, export, package, params, plots, problem, runs, tracking
from .cli import UserError
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
    older, newest = data.split(dataset, settings.data.validation_share)
    say(f"{len(older):,} rows to train on, {len(newest):,} from {newest.span[0][:10]} on to validate with")
    with runs.run(older, newest, settings) as run:
        features = problem.features(older.columns)
        estimator = fit(features, older.target, settings, say)
        card = describe(run.id, older, newest, features, settings)
        built = package.Package(export.to_onnx(estimator), card)
        predictor = Predictor(built)
        card |= evaluate(predictor, older, newest)
        matrix = problem.features(newest.columns)
        predicted = predictor.predict(newest.columns)[problem.TARGET]
        expected = problem.answer(estimator.predict(matrix))[problem.TARGET]
        difference = export.check_parity(expected, predicted, settings.package.tolerance)
        score, baseline = card["metrics"][problem.METRIC], card["metrics"][f"baseline_{problem.METRIC}"]
        say(
            f"{problem.METRIC} {score:.4f} {problem.UNIT} on the validation rows; always saying the mean: {baseline:.4f}"
        )
        say(f"packaged as ONNX; it agrees with the estimator to {difference:.1g} {problem.UNIT}")
        run.model_uri = log(built, plots.all_plots(newest.target, predicted, matrix, estimator), newest)
    package.write(built, output)
    return Trained(run.id, run.model_uri, output, card)


def fit(features: NDArray[np.float32], target: NDArray[np.float64], settings: params.Params, say: Say) -> Any:
    """The estimator that `params.toml` names, fitted.

    Raises:
        UserError: there is no such estimator, or it refuses one of its parameters.
    """
    name = settings.model.estimator
    started = time.perf_counter()
    try:
        estimator = problem.estimator(name, getattr(settings.model, name, {}), settings.data.seed)
        estimator.fit(features, target)
    except (ValueError, TypeError) as error:
        raise UserError(f"params.toml [model]: {error}") from None
    say(f"fitted {name} in {time.perf_counter() - started:.1f} s")
    return estimator


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
        "record": problem.Record.model_json_schema(),
        "reference": {
            name: np.quantile(features[:, i], [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).round(4).tolist()
            for i, name in enumerate(problem.FEATURES)
        },
    }


def evaluate(predictor: Predictor, older: Dataset, newest: Dataset) -> dict[str, dict[str, float]]:
    """`metrics` for the card: on validation rows, on training rows (`train_`), and for the mean (`baseline_`)."""
    metrics = problem.metrics(newest.target, predictor.predict(newest.columns))
    train_metrics = problem.metrics(older.target, predictor.predict(older.columns))
    mean = {problem.TARGET: np.full(len(newest), older.target.mean())}
    baseline = problem.metrics(newest.target, mean)
    metrics |= {f"train_{name}": value for name, value in train_metrics.items()}
    return {"metrics": metrics | {f"baseline_{name}": value for name, value in baseline.items()}}


def log(built: package.Package, figures: dict[str, Any], newest: Dataset) -> str:
    """Log metrics, pictures and the packaged model to the active run; gives the model's URI."""
    import pandas as pd
    from mlflow.models import infer_signature

    from .pyfunc import Model

    with tracking.errors():
        mlflow.log_metrics(built.card["metrics"])
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
