"""A prediction log as a test wants it: what a model answered in some hour, and what came true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import clean, schema
from {{ cookiecutter.__package }}.model.predictor import PREDICTION, Predictor
from {{ cookiecutter.__package }}.monitoring import windows

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
NUMBER = max(
    (field for field in schema.FIELDS if field.kind in (int, float) and not field.choices),
    key=lambda field: (field.kind is float, (field.most or 1e9) - (field.least or 0)),
)
"""A field that can move."""


class Log:
    """What the readers of the log and of truth give, for a test to fill."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.refused: list[tuple[str, int]] = []
        self.truths: dict[tuple[str, str], Any] = {}

    def hour(self, predictor: Predictor, ago: int, rows: int = 250, *, role: str = "champion", version: str = "1", moved: bool = False, off: float = 0.0) -> None:  # fmt: skip
        """Answers of the hour that began so many hours ago; `moved` records, or truth that is `off` by so much of its spread."""
        seed = 100 + ago
        found = clean.clean("an hour", problem.sample(3 * rows, seed))
        found = found.take(np.random.default_rng(seed).permutation(len(found))[:rows])
        columns = dict(found.columns)
        if moved:
            shifted = columns[NUMBER.name] + 2 * np.nanstd(columns[NUMBER.name]) + 1
            columns[NUMBER.name] = shifted.astype(columns[NUMBER.name].dtype)
        said = {name: values.tolist() for name, values in predictor.predict(columns).items()}
        said.pop("model_version")
        records = schema.table(columns).to_pylist()
        truths = (
            found.target + off * found.target.std()
            if problem.TASK == "regression"
            else np.abs(found.target - (off > 0))
        )
        for number, record in enumerate(records):
            name = f"{ago}-{role}-{version}-{number}"
            time = NOW - timedelta(hours=ago) + timedelta(seconds=number * 3_600 / rows)
            answer = {field: values[number] for field, values in said.items()}
            told = {
                PREDICTION: name,
                "time": windows.stamp(time),
                "model_version": version,
                "role": role,
                "milliseconds": 1.0,
            }
            self.rows.append({**told, "record": record, "answer": answer})
            self.truths[PREDICTION, name] = float(truths[number])
        self.rows.sort(key=lambda each: each["time"])

    def read(self, folder: object = None, since: str = "", until: str = "") -> Any:
        """As `logged.rows`."""
        return (each for each in self.rows if _within(each["time"], since, until))

    def read_refused(self, folder: object = None, since: str = "", until: str = "") -> Any:
        """As `logged.refused`."""
        return (each for each in self.refused if _within(each[0], since, until))


def _within(time: str, since: str, until: str) -> bool:
    return time >= since and (not until or time[: len(until)] <= until)
