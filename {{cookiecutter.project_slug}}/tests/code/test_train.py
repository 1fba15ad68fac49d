"""A training leaves one run that tells everything, and one model that anybody can load."""

import mlflow
import pytest
from records import ANSWER

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.model import load
from {{ cookiecutter.__package }}.tracking import store
from {{ cookiecutter.__package }}.training import train


@pytest.fixture(scope="module")
def run(trained):
    return store.connect().get_run(trained.run_id)


def test_the_run_has_the_metrics_of_the_card(run, trained):
    card = trained.card
    assert {name: run.data.metrics[name] for name in card["metrics"]} == pytest.approx(card["metrics"])
    for name, (low, high) in card.get("intervals", {}).items():
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


def test_mlflow_s_own_server_asks_for_no_more_than_the_service_does(trained, dataset):
    import pandas as pd

    required = {field.name: dataset.columns[field.name][:5] for field in schema.FIELDS if field.required}
    assert len(mlflow.pyfunc.load_model(trained.model_uri).predict(pd.DataFrame(required))) == 5


def test_optional_fields_may_be_left_out_of_a_frame(predictor, dataset):
    import pandas as pd

    optional = [field.name for field in schema.FIELDS if not field.required]
    frame = pd.DataFrame(dict(dataset.take(slice(3)).columns)).drop(columns=optional)
    assert len(load.Model(predictor).predict(frame)) == 3


def test_a_bad_setting_is_named(tmp_path, dataset, settings):
    (tmp_path / "params.toml").write_text('[model]\nestimater = "xgboost"\n')
    with pytest.raises(UserError, match="did you mean estimator"):
        params.load(tmp_path / "params.toml")
    (tmp_path / "params.toml").write_text("[data]\nsead = 1\n")
    with pytest.raises(UserError, match=r"data\.sead is not a setting; did you mean seed"):
        params.load(tmp_path / "params.toml")
    (tmp_path / "params.toml").write_text("[data]\nseed = -1\n")
    with pytest.raises(UserError, match=r"data\.seed = -1"):
        params.load(tmp_path / "params.toml")
    (tmp_path / "params.toml").write_text("[modle]\n")
    with pytest.raises(UserError, match="did you mean model"):
        params.load(tmp_path / "params.toml")
    unknown = settings.model_copy(update={"model": params.Model(estimator="forest")})
    with pytest.raises(UserError, match="choose xgboost, linear, or an import path"):
        train.train(dataset, unknown, tmp_path / "model")
    assert not (tmp_path / "model").exists()
