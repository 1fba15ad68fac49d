"""A model from MLflow is kept, so that a service starts on a day when MLflow is away."""

import pytest

from {{ cookiecutter.__package }}.model import bundle, fetch
from {{ cookiecutter.__package }}.model.bundle import ModelError


def test_the_model_of_a_run_can_be_served_even_when_the_store_is_away(trained, tracking_store, monkeypatch, capsys):
    fetched = bundle.read(fetch.folder(f"runs:/{trained.run_id}/model"))
    assert fetched.card["metrics"] == trained.card["metrics"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    assert bundle.read(fetch.folder(f"runs:/{trained.run_id}/model")) == fetched
    assert "warning" in capsys.readouterr().err
    with pytest.raises(ModelError, match="nothing has been trained yet"):
        bundle.read(fetch.folder("runs:/0123456789abcdef/model"))
