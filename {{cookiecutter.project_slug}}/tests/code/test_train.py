"""A training leaves one run that tells everything, and one model that anybody can load."""

import mlflow
import pytest

from {{ cookiecutter.__package }} import data, params, problem, pyfunc, source, tracking, train
from {{ cookiecutter.__package }}.cli import UserError
from {{ cookiecutter.__package }}.package import ModelError


@pytest.fixture(scope="module")
def run(trained):
    return tracking.connect().get_run(trained.run_id)


def test_the_run_has_the_metrics_of_the_card(run, trained):
    assert run.data.metrics == pytest.approx(trained.card["metrics"])
    assert {"rmse", "mae", "train_rmse", "train_mae", "baseline_rmse"} <= set(run.data.metrics)


def test_the_metric_is_that_of_the_packaged_model_on_the_newest_rows(trained, predictor, dataset, settings):
    _, newest = data.split(dataset, settings.data.validation_share)
    again = problem.metrics(newest.target, predictor.predict(newest.columns))
    assert again["rmse"] == pytest.approx(trained.card["metrics"]["rmse"], abs=1e-9)


def test_the_run_has_every_setting_and_both_data_sets(run, settings):
    assert run.data.params["model.estimator"] == settings.model.estimator
    assert run.data.params["data.seed"] == str(settings.data.seed)
    assert {tag.value for each in run.inputs.dataset_inputs for tag in each.tags} == {"training", "validation"}


def test_the_run_is_tagged_with_team_code_data_and_lock(run, trained):
    wanted = {"team", "git_commit", "git_dirty", "data_span", "lock_fingerprint", "template_version", "trigger"}
    assert wanted <= set(run.data.tags)
    assert run.data.tags["data_fingerprint"] == trained.card["data"]["fingerprint"]


def test_the_run_has_pictures(trained):
    pictures = {file.path for file in tracking.connect().list_artifacts(trained.run_id, "plots")}
    assert "plots/predicted_against_actual.png" in pictures
    assert "plots/importance.png" in pictures
    assert len(pictures) == 2 + len(problem.SEGMENTS)


def test_training_twice_gives_the_same_metric(trained, dataset, settings, tmp_path):
    again = train.train(dataset, settings, tmp_path / "model")
    assert again.card["metrics"] == trained.card["metrics"]


def test_the_linear_model_is_one_setting_away(dataset, settings, tmp_path, store):
    linear = settings.model_copy(update={"model": settings.model.model_copy(update={"estimator": "linear"})})
    trained = train.train(dataset, linear, tmp_path / "model")
    assert trained.card["metrics"]["rmse"] < trained.card["metrics"]["baseline_rmse"]


def test_mlflow_loads_the_model_and_predicts_the_same(trained, predictor, dataset):
    import pandas as pd

    few = dataset.take(slice(5))
    loaded = mlflow.pyfunc.load_model(trained.model_uri)
    assert loaded.predict(pd.DataFrame(dict(few.columns)))["duration"].tolist() == (
        predictor.predict(few.columns)["duration"].tolist()
    )


def test_optional_fields_may_be_left_out_of_a_frame(predictor, dataset):
    import pandas as pd

    frame = pd.DataFrame(dict(dataset.take(slice(3)).columns)).drop(columns=problem.TIME)
    assert len(pyfunc.Model(predictor).predict(frame)) == 3


def test_the_model_of_a_run_can_be_served_even_when_the_store_is_away(trained, store, monkeypatch, capsys):
    fetched = source.fetch(f"runs:/{trained.run_id}/model")
    assert fetched.card["metrics"] == trained.card["metrics"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nowhere/mlflow.db")
    assert source.fetch(f"runs:/{trained.run_id}/model") == fetched
    assert "warning" in capsys.readouterr().err
    with pytest.raises(ModelError, match="no tracking store"):
        source.fetch("runs:/0123456789abcdef/model")


def test_a_bad_setting_is_named(tmp_path, dataset, settings):
    (tmp_path / "params.toml").write_text('[model]\nestimater = "xgboost"\n')
    with pytest.raises(UserError, match="did you mean estimator"):
        params.load(tmp_path / "params.toml")
    unknown = settings.model_copy(update={"model": settings.model.model_copy(update={"estimator": "forest"})})
    with pytest.raises(UserError, match="choose xgboost or linear"):
        train.train(dataset, unknown, tmp_path / "model")
    assert not (tmp_path / "model").exists()
