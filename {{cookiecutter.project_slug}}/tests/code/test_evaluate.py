"""Metrics against values worked out by hand, estimators by name, and what is said of a model that is worth nothing."""

import importlib

import numpy as np
import pytest
from records import several

from {{ cookiecutter.__package }} import data, estimators, evaluate, metrics, package, problem, train
from {{ cookiecutter.__package }}.cli import UserError
from {{ cookiecutter.__package }}.package import ModelError
from {{ cookiecutter.__package }}.predictor import Predictor
from {{ cookiecutter.__package }}.schema import columns


def change(settings, **model):
    """The settings with another estimator."""
    return settings.model_copy(update={"model": settings.model.model_copy(update=model)})


def test_metrics_are_those_of_the_textbook(monkeypatch):
    actual = np.array([10.0, 20.0])
    monkeypatch.setattr(problem, "TASK", "regression")
    assert metrics.metrics(actual, np.array([13.0, 16.0])) == pytest.approx({"rmse": np.sqrt((9 + 16) / 2), "mae": 3.5})
    monkeypatch.setattr(problem, "TASK", "binary")
    found = metrics.metrics(np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.1, 0.8, 0.4, 0.4]))
    assert found["roc_auc"] == pytest.approx(3.5 / 4)
    assert found["brier"] == pytest.approx((0.01 + 0.04 + 0.36 + 0.16) / 4)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.6]).mean())
    monkeypatch.setattr(problem, "TASK", "multiclass")
    found = metrics.metrics(np.array([0.0, 1.0, 2.0]), np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.7, 0.8, 0.2]).mean())


@pytest.mark.parametrize(("name", "value", "lost"), [("rmse", 3.0, 3.0), ("roc_auc", 0.8, 0.2), ("accuracy", 1.0, 0.0)])
def test_of_a_loss_less_is_better_whatever_the_metric(name, value, lost):
    assert metrics.loss(name, value) == pytest.approx(lost)


def test_the_metric_is_that_of_the_packaged_model_on_the_validation_rows(trained, predictor, dataset, settings):
    _, newest = data.split(dataset, settings.data.validation_share, settings.data.seed)
    again = metrics.metrics(newest.target, evaluate.measured(predictor, newest.columns))
    assert {name: trained.card["metrics"][name] for name in again} == pytest.approx(again, abs=1e-9)


def test_the_baseline_knows_nothing_but_the_training_target(trained, dataset, settings):
    older, newest = data.split(dataset, settings.data.validation_share, settings.data.seed)
    said = np.full(len(newest), older.target.mean())
    if problem.TASK != "multiclass":
        expected = metrics.metrics(newest.target, said)
        assert {name: trained.card["metrics"][f"baseline_{name}"] for name in expected} == pytest.approx(expected)


def test_an_interval_is_narrower_the_more_rows_there_are(predictor, dataset):
    scores = evaluate.measured(predictor, dataset.columns)
    widths = []
    for rows in (slice(200), slice(None)):
        low, high = metrics.interval(dataset.target[rows], scores[rows], seed=1)[problem.METRIC]
        widths.append(high - low)
    assert 0 < widths[1] < widths[0]


def test_folds_are_as_many_as_asked_and_validated_with_what_comes_later(dataset, settings, monkeypatch):
    seen = []
    whole = evaluate.fit
    monkeypatch.setattr(
        evaluate, "fit", lambda matrix, target, given: seen.append(len(target)) or whole(matrix, target, given)
    )
    folded = change(settings, estimator="linear").model_copy(
        update={"data": settings.data.model_copy(update={"folds": 3})}
    )
    found = evaluate.folds(dataset, folded)
    assert set(found) == {f"cv_{name}{end}" for name in metrics.MEASURES[problem.TASK] for end in ("", "_std")}
    assert len(seen) == 3
    assert (seen[0] < 0.6 * seen[-1]) == bool(problem.TIME)
    assert evaluate.folds(dataset, settings) == {}


def test_the_linear_model_is_one_setting_away(dataset, settings, tmp_path):
    trained = train.train(dataset, change(settings, estimator="linear"), tmp_path / "model")
    assert evaluate.beats_baseline(trained.card)
    assert trained.card["file"] == "model.onnx"


FOREST = "sklearn.ensemble.RandomForest" + ("Regressor" if problem.TASK == "regression" else "Classifier")
BOOSTED = "sklearn.ensemble.HistGradientBoosting" + ("Regressor" if problem.TASK == "regression" else "Classifier")


def test_an_estimator_of_scikit_learn_is_its_import_path_away(dataset, settings, tmp_path):
    forest = change(settings, estimator=FOREST, sklearn={"n_estimators": 5, "max_depth": 6})
    # A graph that rounds a threshold the other way than the estimator is refused; a skops file is the estimator itself.
    kept = forest.model_copy(update={"package": forest.package.model_copy(update={"format": "sklearn"})})
    trained = train.train(dataset, kept, tmp_path / "model")
    assert evaluate.beats_baseline(trained.card)
    assert trained.card["file"] == "model.skops"


@pytest.fixture(scope="module")
def skops_model(dataset, settings, tmp_path_factory):
    """A model of an estimator that has no ONNX converter, and what its training said."""
    said = []
    boosted = change(settings, estimator=BOOSTED, sklearn={"max_iter": 20})
    trained = train.train(dataset, boosted, tmp_path_factory.mktemp("skops") / "model", said.append)
    return trained, said


def test_what_has_no_converter_is_kept_as_a_skops_file_and_answers_all_the_same(skops_model, dataset):
    trained, said = skops_model
    if trained.card["file"] == "model.onnx":
        pytest.skip("this scikit-learn's estimator has a converter by now")
    assert any("no ONNX converter" in line for line in said)
    kept = package.read(trained.folder)
    answers = Predictor(kept).predict(dataset.take(slice(5)).columns)
    assert len(answers[next(iter(problem.Answer.model_fields))]) == 5
    assert set(trained.card["trusted_types"]) <= {name for name in trained.card["trusted_types"] if "sklearn" in name}


def test_a_type_of_nobody_s_is_not_loaded_whatever_the_card_says(skops_model):
    from skops import io

    trained, _ = skops_model
    harmful = io.dumps(importlib.import_module("subprocess").Popen)
    card = {**trained.card, "file": "model.skops", "trusted_types": ["subprocess.Popen"]}
    with pytest.raises(ModelError, match="cannot be loaded"):
        Predictor(package.Package(harmful, card))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"estimator": "xgbost"}, "did you mean xgboost"),
        ({"estimator": "xgboost", "xgboost": {"max_deph": 3}}, "no parameter 'max_deph'; did you mean max_depth"),
        ({"estimator": "linear", "linear": {"alfa": 1}}, "did you mean alpha"),
        ({"estimator": FOREST[:-1]}, f"did you mean {FOREST}"),
        ({"estimator": "sklearn.forest.Random"}, "there is no module sklearn.forest"),
        ({"estimator": "os.system"}, "is unknown"),
        ({"estimator": "sklearn.preprocessing.StandardScaler"}, f"is not for {problem.TASK}"),
        ({"estimator": FOREST, "sklearn": {"max_depth": "deep"}}, "max_depth"),
    ],
)
def test_a_wrong_estimator_or_parameter_is_named_with_what_is_near(dataset, settings, model, said):
    matrix = problem.features(dataset.take(slice(100)).columns)
    with pytest.raises(UserError, match=said) as error:
        evaluate.fit(matrix, dataset.target[:100], change(settings, **model))
    assert "\n" not in str(error.value)


def test_a_model_that_is_worth_nothing_is_said_to_be(trained):
    score = trained.card["metrics"][f"baseline_{problem.METRIC}"]
    poor = {**trained.card, "metrics": {**trained.card["metrics"], problem.METRIC: score}}
    assert "no better than no model" in list(train.verdict(poor))[-1]
    assert len(list(train.verdict(trained.card))) == 1


def test_a_setting_that_the_answer_does_not_know_is_named(trained):
    kept = package.read(trained.folder)
    with pytest.raises(ModelError, match="decision"):
        Predictor(package.Package(kept.graph, {**kept.card, "decision": {"treshold": 0.3}}))


def test_one_record_and_many_get_the_same_scores(predictor):
    made = [problem.Record.model_validate(record, strict=False) for record in several(20)]
    together = predictor.scores(columns(made))
    singly = np.concatenate([predictor.scores(columns([record])) for record in made])
    assert np.array_equal(together, singly)


def test_every_name_that_params_toml_knows_is_an_estimator():
    for name in estimators.NAMES:
        assert hasattr(estimators.build(name, {}, 1), "fit")


@pytest.mark.parametrize("feature", problem.SEGMENTS)
def test_the_metrics_of_the_parts_are_those_of_the_whole_put_together(trained, dataset, settings, feature):
    _, newest = data.split(dataset, settings.data.validation_share, settings.data.seed)
    scores = evaluate.measured(Predictor(package.read(trained.folder)), newest.columns)
    parts = [part for part in evaluate.segments(newest, scores) if part["feature"] == feature]
    if sum(part["rows"] for part in parts) < len(newest):
        pytest.skip("a part has too few rows to tell anything")
    mean = "mae" if problem.TASK == "regression" else "log_loss"
    together = sum(part["metrics"][mean] * part["rows"] for part in parts) / len(newest)
    assert together == pytest.approx(metrics.metrics(newest.target, scores)[mean])
