"""A small model, trained once in a folder of its own, that all tests share."""

import os
from pathlib import Path

import pytest

# Before the package is imported: no test may touch the project's own runs, models or settings.
for name in [name for name in os.environ if name.startswith(("MLFLOW_", "MODEL_"))]:
    del os.environ[name]
os.environ["PYTHON_DOTENV_DISABLED"] = "1"

from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.data import clean, read
from {{ cookiecutter.__package }}.data.clean import Dataset
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.tracking.conventions import Run


@pytest.fixture(scope="session")
def settings() -> params.Params:
    """The project's own settings, on fewer rows."""
    loaded = params.load()
    return loaded.model_copy(update={"data": loaded.data.model_copy(update={"source": "", "sample_rows": 3_000})})


@pytest.fixture(scope="session")
def dataset(settings: params.Params) -> Dataset:
    return clean.clean(*read.rows(settings.data))


@pytest.fixture(scope="session", autouse=True)
def tracking_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking store for this test run, used by everything that talks to MLflow."""
    folder = tmp_path_factory.mktemp("tracking")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{(folder / 'mlflow.db').as_posix()}"
    os.environ["MODEL_CACHE"] = str(folder / "cache")
    return os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture(scope="session")
def trained(
    tracking_store: str, dataset: Dataset, settings: params.Params, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    if candidate := os.environ.get("BEHAVIOUR_OF"):  # a bundle that a gate wants to be tested
        return Run("candidate", "", Path(candidate), bundle.read(Path(candidate)).card)
    from {{ cookiecutter.__package }}.training import train  # seconds that a gate need not wait for

    return train.train(dataset, settings, tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="session")
def predictor(trained: Run) -> Predictor:
    return Predictor(bundle.read(trained.folder))


@pytest.fixture
def model_copy(trained: Run, tmp_path: Path) -> Path:
    """A copy of the trained model that a test may damage."""
    bundle.write(bundle.read(trained.folder), tmp_path / "model")
    return tmp_path / "model"
