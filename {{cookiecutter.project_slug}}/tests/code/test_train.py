"""A training leaves one run that tells everything, and one model that anybody can load."""

import mlflow
import pytest
from records import ANSWER

from {{ cookiecutter.__package }} import params, problem, pyfunc, schema, source, tracking, train
from {{ cookiecutter.__package }}.cli import UserError
from {{ cookiecutter.__package }}.package import ModelError


@pytest.fixture(scope="module")
def run(trained):
    return tracking.connect().get_run(trained.run_id)


def test_the_run_has_the_metrics_of_the_card(run, trained):
    card = trained.card
    assert {name: run.data.metrics[name] for name in card["metrics"]} == pytest.approx(card["metrics"])
    for name, (low, high) in card["intervals"].items():
        assert (run.data.metrics[f"{name}_low"], run.data.metrics[f"{name}_high"]) == pytest.approx((low, high))
        assert low <= card["metrics"][name] <= high
    assert {f"{kind}{problem.METRIC}" for kind in ("", "train_", "baseline_")} <= set(run.data.metrics)


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
    assert {"plots/importance.png", "plots/partial_dependence.png"} <= pictures
    kinds = {"regression": {"predicted_against_actual"}, "binary": {"roc", "calibration"}}
    assert {f"plots/{name}.png" for name in kinds.get(problem.TASK, ())} <= pictures


def test_training_twice_gives_the_same_metric(trained, dataset, settings, tmp_path):
    again = train.train(dataset, settings, tmp_path / "model")
    assert again.card["metrics"] == trained.card["metrics"]


def test_mlflow_loads_the_model_and_predicts_the_same(trained, predictor, dataset):
    import pandas as pd

    few = dataset.take(slice(5))
    loaded = mlflow.pyfunc.load_model(trained.model_uri)
    assert loaded.predict(pd.DataFrame(dict(few.columns)))[ANSWER[0]].tolist() == (
        predictor.predict(few.columns)[ANSWER[0]].tolist()
    )


def test_optional_fields_may_be_left_out_of_a_frame(predictor, dataset):
    import pandas as pd

    optional = [field.name for field in schema.FIELDS if not field.required]
    frame = pd.DataFrame(dict(dataset.take(slice(3)).columns)).drop(columns=optional)
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
    with pytest.raises(UserError, match="choose linear or xgboost"):
        train.train(dataset, unknown, tmp_path / "model")
    assert not (tmp_path / "model").exists()
