"""Estimators by name and by import path, and what is kept of them."""

import io
import pathlib
import zipfile

import mlflow
import pytest

from {{ cookiecutter.__package }} import estimators, metrics, problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.model.bundle import Bundle, ModelError
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.training import train


def change(settings, estimator, **parameters):
    """The settings with another estimator, and the parameters in the table of its name."""
    return settings.model_copy(update={"model": params.Model(**{"estimator": estimator, estimator: parameters})})


def better(card):
    """Whether a model is better than none."""
    lost = {name: metrics.loss(problem.METRIC, card["metrics"][name + problem.METRIC]) for name in ("", "baseline_")}
    return lost[""] < lost["baseline_"]


def test_the_linear_model_is_one_setting_away(dataset, settings, tmp_path):
    trained = train.train(dataset, change(settings, "linear"), tmp_path / "model")
    assert better(trained.card)
    assert trained.card["file"] == "model.onnx"


FOREST = "sklearn.ensemble.RandomForest" + ("Regressor" if problem.TASK == "regression" else "Classifier")
BOOSTED = "sklearn.ensemble.HistGradientBoosting" + ("Regressor" if problem.TASK == "regression" else "Classifier")


def test_an_estimator_of_scikit_learn_is_its_import_path_away(dataset, settings, tmp_path):
    forest = change(settings, FOREST, n_estimators=5, max_depth=6)
    # A graph that rounds a threshold the other way than the estimator is refused; a skops file is the estimator itself.
    kept = forest.model_copy(update={"export": params.Export(format="skops")})
    trained = train.train(dataset, kept, tmp_path / "model")
    assert better(trained.card)
    assert trained.card["file"] == "model.skops"


@pytest.fixture(scope="module")
def skops_model(dataset, settings, tmp_path_factory):
    """A model of an estimator that has no ONNX converter, and what its training said."""
    said = []
    boosted = change(settings, BOOSTED, max_iter=20)
    trained = train.train(dataset, boosted, tmp_path_factory.mktemp("skops") / "model", said.append)
    return trained, said


def test_what_has_no_converter_is_kept_as_a_skops_file_and_answers_all_the_same(skops_model, dataset):
    trained, said = skops_model
    if trained.card["file"] == "model.onnx":
        pytest.skip("this scikit-learn's estimator has a converter by now")
    assert any("no ONNX converter" in line for line in said)
    kept = bundle.read(trained.folder)
    answers = Predictor(kept).predict(dataset.take(slice(5)).columns)
    assert len(answers[next(iter(problem.Answer.model_fields))]) == 5
    needed = pathlib.Path(mlflow.pyfunc.get_model_dependencies(trained.model_uri)).read_text()
    assert {"scikit-learn", "skops"} <= {line.split("==")[0] for line in needed.split()}


def renamed(content, old, new):
    """A skops file in which a type is called by another module's name."""
    given, made = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        for name in given.namelist():
            file.writestr(name, given.read(name).replace(old, new))
    return made.getvalue()


@pytest.mark.parametrize("module", ["subprocess", "sklearn.utils._testing"])
def test_a_type_of_nobody_s_is_not_loaded_whatever_the_card_says(skops_model, module):
    import subprocess

    from skops.io import dumps

    trained, _ = skops_model
    harmful = renamed(dumps(subprocess.check_output), b'"subprocess"', f'"{module}"'.encode())
    card = {**trained.card, "file": "model.skops", "trusted_types": [f"{module}.check_output"]}
    with pytest.raises(ModelError, match="cannot be loaded"):
        Predictor(Bundle(harmful, card))


def test_an_estimator_of_types_that_nobody_declared_is_not_kept(skops_model, dataset, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(estimators, "SKLEARN_TYPES", ())
    with pytest.raises(UserError, match=r"give it an entry in estimators\.py whose `types` names them"):
        train.train(dataset, change(settings, BOOSTED, max_iter=5), tmp_path / "model")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"estimator": "xgbost"}, "did you mean xgboost"),
        ({"estimator": "forest"}, "choose xgboost, linear, or an import path"),
        ({"estimator": "xgboost", "xgboost": {"max_deph": 3}}, "no parameter 'max_deph'; did you mean max_depth"),
        ({"estimator": "xgboost", "xgbost": {"max_depth": 3}}, "'xgbost' is unknown; did you mean xgboost"),
        ({"estimator": "linear", "linear": {"alfa": 1}}, "did you mean alpha"),
        ({"estimator": FOREST[:-1]}, f"did you mean {FOREST.rpartition('.')[2]}"),
        ({"estimator": "sklearn.forest.Random"}, "there is no module sklearn.forest"),
        ({"estimator": "nowhere.Forest"}, "make add PACKAGE=nowhere"),
        ({"estimator": "os.system"}, "os has no estimator system"),
        ({"estimator": "sklearn.preprocessing.StandardScaler"}, f"is not for {problem.TASK}"),
        ({"estimator": FOREST, FOREST: {"max_depth": "deep"}}, "max_depth"),
    ],
)
def test_a_wrong_estimator_or_parameter_is_named_with_what_is_near(dataset, settings, model, said):
    matrix = problem.features(dataset.take(slice(100)).columns)
    with pytest.raises(UserError, match=said) as error:
        estimators.fit(matrix, dataset.target[:100], settings.model_copy(update={"model": params.Model(**model)}))
    assert "\n" not in str(error.value)


def test_every_name_that_params_toml_knows_is_an_estimator():
    for name in estimators.ESTIMATORS:
        assert hasattr(estimators.build(name, {}, 1), "fit")
