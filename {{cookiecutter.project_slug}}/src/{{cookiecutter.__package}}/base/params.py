"""The project's settings: `params.toml` for what a data scientist edits, `pyproject.toml` for names and commands."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UserError, near

PACKAGE = Path(__file__).resolve().parents[1]
"""The folder of this Python package."""

ROOT = next((folder for folder in PACKAGE.parents if (folder / "params.toml").is_file()), Path.cwd())
"""The project's folder, which contains `params.toml`; the current folder if the package is installed elsewhere."""

TABLES = ("data", "model", "decision", "export", "evaluate", "interval", "tune", "tracking", "validation", "drift", "gate", "service", "explain", "ab", "shadow", "log", "monitor", "retrain", "rollout", "web", "batch", "stream")  # fmt: skip
"""The tables that `params.toml` may have; a module that reads one has a `Section` for it."""


class Section(BaseModel):
    """A table of `params.toml`; an unknown key is an error, not a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    table: ClassVar[str] = ""

    @classmethod
    def load(cls, path: Path = ROOT / "params.toml") -> Any:
        """The table from params.toml; keys that are left out get their defaults.

        Raises:
            UserError: the file cannot be read, or has an unknown table or key, or a value out of range.
        """
        return _checked(cls, _tables(path).get(cls.table, {}), path.name, f"{cls.table}.")


class Data(Section):
    """What to train on and how to split it."""

    source: str = ""
    sample_rows: int = Field(default=20_000, ge=100)
    validation_share: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=42, ge=0, lt=2**32)


class Model(BaseModel):
    """The estimator, and its parameters in the table of its name."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, dict[str, Any]] = Field(init=False)

    estimator: str = "xgboost"

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """Name of an estimator -> its parameters in `[model.<name>]`."""
        return self.__pydantic_extra__

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the selected estimator."""
        return self.tables.get(self.estimator, {})


class Export(Section):
    """The format that a model is stored in, and how far it may differ from its estimator, in the unit of its output."""

    format: Literal["auto", "onnx", "skops"] = "auto"
    tolerance: float = Field(default=0.001, gt=0)


class Params(Section):
    """The settings of a training, which every run logs; `decision` is passed to `problem.answer`."""

    data: Data = Data()
    model: Model = Model()
    decision: dict[str, Any] = {}
    export: Export = Export()


def load(path: Path = ROOT / "params.toml") -> Params:
    """The settings of a training; tables and keys that are left out get their defaults.

    Raises:
        UserError: the file cannot be read, is not TOML, or has an unknown table or key or a value out of range.
    """
    given = {name: table for name, table in _tables(path).items() if name in Params.model_fields}
    return _checked(Params, given, path.name)


def names() -> dict[str, str]:
    """The project's `name`, its `team` and the `template` version it was generated from."""
    pyproject = _toml(ROOT / "pyproject.toml")
    return {"name": pyproject["project"]["name"], **pyproject["tool"]["mlops-template"]["names"]}


def commands() -> dict[str, str]:
    """Command -> its module, relative to the package's folder."""
    return dict(_toml(ROOT / "pyproject.toml")["tool"]["mlops-template"]["commands"])


Table = TypeVar("Table", bound=BaseModel)


def _checked(kind: type[Table], given: Any, file: str, start: str = "") -> Table:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = start + ".".join(str(part) for part in first["loc"])
        known: Any = kind
        for part in first["loc"][:-1]:
            known = known.model_fields[part].annotation if hasattr(known, "model_fields") else None
        fields = getattr(known, "model_fields", {})
        if first["type"] in ("extra_forbidden", "dict_type") and first["loc"][-1] not in fields:
            meant = near(str(first["loc"][-1]), fields, f"; it knows {', '.join(fields)}")
            raise UserError(f"{file}: {where} is not a setting{meant}") from None
        raise UserError(f"{file}: {where.rstrip('.')} = {first['input']!r}: {first['msg'].lower()}") from None


def _tables(path: Path) -> dict[str, Any]:
    found = _toml(path)
    for name in found:
        if name not in TABLES:
            raise UserError(f"{path.name}: [{name}] is not a table that is read{near(name, TABLES)}")
    return found


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this in the project's folder, or `git checkout {path.name}`") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name} is not valid TOML: {error}") from None
