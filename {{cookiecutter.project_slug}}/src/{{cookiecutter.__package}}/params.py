"""The project's settings: `params.toml` for what a data scientist edits, `pyproject.toml` for its names."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .cli import UserError

ROOT = Path(__file__).resolve().parents[2]
"""The project's folder: the one that holds `params.toml` and `pyproject.toml`."""


class Section(BaseModel):
    """A table of `params.toml`; a key that it does not know is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """What to train on and how to split it."""

    source: str = ""
    sample_rows: int = Field(default=20_000, ge=100)
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    folds: int = Field(default=0, ge=0, le=20)
    seed: int = 42


class Model(Section):
    """Which estimator, and under its name the parameters it is built with."""

    estimator: str = "xgboost"
    xgboost: dict[str, Any] = {}
    linear: dict[str, Any] = {}
    sklearn: dict[str, Any] = {}


class Tune(Section):
    """Where `make tune` looks: `[low, high]`, `[low, high, "log"]` or a list of choices for each parameter."""

    space: dict[str, list[Any]] = {}


class Package(Section):
    """How a model is packaged, and how far the package may be from the estimator, in the unit of its output."""

    format: Literal["auto", "onnx", "sklearn"] = "auto"
    tolerance: float = Field(default=0.001, gt=0)


class Tracking(Section):
    """Where runs and models go: a server's address, or nothing for an SQLite file in the project."""

    uri: str = ""


class Validation(Section):
    """When a data set is too poor to train on."""

    min_rows: int = Field(default=500, ge=1)
    max_dropped_share: float = Field(default=0.2, ge=0, le=1)
    max_duplicate_share: float = Field(default=0.05, ge=0, le=1)
    min_class_share: float = Field(default=0.01, ge=0, le=0.5)
    max_drift: float = Field(default=0.25, gt=0)


class Gate(Section):
    """When a trained model is good enough to be registered."""

    min_improvement: float = Field(default=0.1, ge=0, lt=1)
    max_regression: float = Field(default=0.02, ge=0)


class Service(Section):
    """Which model is served, and what a request may ask of it."""

    model: str = "model"
    max_records: int = Field(default=1_000, ge=1)
    max_bytes: int = Field(default=1_000_000, ge=1)
    max_explained: int = Field(default=50, ge=1)


class Batch(Section):
    """How files are scored, and which share of a file's rows may be refused before none of it is written."""

    batch_rows: int = Field(default=65_536, ge=1)
    max_rejected_share: float = Field(default=0.05, ge=0, le=1)


class Stream(Section):
    """Names on the broker, and how many events are answered together."""

    events: str = "events"
    predictions: str = "predictions"
    dead_letters: str = "dead-letters"
    group: str = "predictor"
    partitions: int = Field(default=4, ge=1)
    batch_size: int = Field(default=500, ge=1, le=10_000)
    linger_seconds: float = Field(default=0.05, gt=0, le=10)


class Params(Section):
    """All of `params.toml`."""

    data: Data = Data()
    model: Model = Model()
    decision: dict[str, Any] = {}
    package: Package = Package()
    tune: Tune = Tune()
    tracking: Tracking = Tracking()
    validation: Validation = Validation()
    gate: Gate = Gate()
    service: Service = Service()
    batch: Batch = Batch()
    stream: Stream = Stream()


def load(path: Path = ROOT / "params.toml") -> Params:
    """Read `params.toml`; sections and keys that are left out have their defaults.

    Raises:
        UserError: the file cannot be read, is no TOML, or has an unknown key or a value out of range.
    """
    try:
        return Params.model_validate(_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{path.name}: {where} is not a setting{_near(first['loc'])}") from None
        raise UserError(f"{path.name}: {where} = {first['input']!r}: {first['msg'].lower()}") from None


def names() -> dict[str, str]:
    """The project's `name`, its `team` and the `template` version it was made from."""
    pyproject = _toml(ROOT / "pyproject.toml")
    return {"name": pyproject["project"]["name"], **pyproject["tool"]["mlops-template"]}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: bring it back with `git checkout {path.name}`") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} is not valid TOML: {error}") from None


def _near(where: tuple[int | str, ...]) -> str:
    section: type[BaseModel] = Params
    for part in where[:-1]:
        section = type(getattr(section(), str(part)))
    near = difflib.get_close_matches(str(where[-1]), section.model_fields, 1)
    return f"; did you mean {near[0]}?" if near else f"; it knows {', '.join(section.model_fields)}"
