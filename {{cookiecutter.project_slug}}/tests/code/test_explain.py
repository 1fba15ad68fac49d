"""Explanations: parts that sum to the score, and are the Shapley values that they say they are."""

import dataclasses
import io
import itertools
import math

import numpy as np
import pytest

from {{ cookiecutter.__package }} import estimators, problem
from {{ cookiecutter.__package }}.base import params
from {{ cookiecutter.__package }}.model import bundle, explain
from {{ cookiecutter.__package }}.model.bundle import Bundle, ModelError
from {{ cookiecutter.__package }}.model.explain import Explanation
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.training import explanations, export, train


@pytest.fixture(scope="session")
def explained(trained, predictor):
    """What explains the trained model."""
    return Explanation(bundle.read(trained.folder), predictor.of_features)


def parts(explained, columns):
    return explained.parts(problem.features(columns))


def change(settings, estimator, **parameters):
    return settings.model_copy(update={"model": params.Model(**{"estimator": estimator, estimator: parameters})})


def wanted(predictor, columns):
    """The scores on the scale that explanations are on; of several classes the most probable one's."""
    table = explain.scaled(predictor.scores(columns), predictor.card["explanation"]["scale"])
    return table.max(axis=1)


def test_the_parts_of_a_model_of_trees_are_exact_and_sum_to_its_scores(explained, predictor, dataset):
    assert predictor.card["explanation"]["method"] == "exact"
    few = dataset.take(slice(100)).columns
    base, contributions = parts(explained, few)
    assert contributions.shape == (100, len(problem.FEATURES))
    assert base + contributions.sum(axis=1) == pytest.approx(wanted(predictor, few), abs=0.005)
    assert np.ptp(base) == pytest.approx(0) or problem.TASK == "multiclass"


def test_each_part_is_the_average_over_all_orders_of_what_a_feature_changes(trained, dataset):
    """The definition (Shapley 1953), leaf by leaf and set by set, against the quadrature."""
    with np.load(io.BytesIO(bundle.read(trained.folder).extras[explain.EXTRA])) as file:
        held = {name: file[name] for name in file.files}
    row = problem.features(dataset.take(slice(1)).columns)
    leaf_count, depth = held["share"].shape
    chosen = np.linspace(0, leaf_count - 1, 20).astype(int)
    expected = np.zeros((len(problem.FEATURES), held["leaf_weight"].shape[1]))
    values = row[0][held["feature"]]
    passes = np.where(np.isnan(values), held["missing"], (values >= held["low"]) & (values < held["high"]))
    for leaf in chosen:
        for slot in range(depth):
            others = [each for each in range(depth) if each != slot]
            for size in range(depth):
                weight = math.factorial(size) * math.factorial(depth - size - 1) / math.factorial(depth)
                for known in itertools.combinations(others, size):
                    reach = np.prod([passes[leaf, o] if o in known else held["share"][leaf, o] for o in others])
                    step = (passes[leaf, slot] - held["share"][leaf, slot]) * reach * weight
                    expected[held["feature"][leaf, slot]] += step * held["leaf_weight"][leaf]
    part = {name: held[name][chosen] for name in ("feature", "low", "high", "missing", "share", "leaf_weight")}
    order = np.argsort(part["feature"].ravel(), kind="stable")
    used, starts = np.unique(part["feature"].ravel()[order], return_index=True)
    part |= {"order": order, "starts": starts, "used": used, "base": held["base"]}
    _, contributions = explain.of_leaves(part, row)
    assert contributions[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.skipif(problem.TASK != "regression", reason="XGBoost weighs rows by their curvature, which is 1 here only")
def test_xgboost_says_the_same_of_its_own_trees(dataset, settings, tmp_path):
    import xgboost

    whole = change(settings, "xgboost", **settings.model.parameters | {"subsample": 1.0})
    trained = train.train(dataset, whole, tmp_path / "model", print)
    older, newest = (dataset.take(slice(0, 2_400)), dataset.take(slice(2_400, 2_500)))
    estimator = estimators.fit(problem.features(older.columns), older.target, whole)
    # The golden rows are another estimator's.
    card = {name: value for name, value in trained.card.items() if name != "golden"}
    built = Bundle(export.export(estimator, whole, print)[0], card)
    matrix = problem.features(newest.columns)
    content, about = explanations.prepared(built, problem.features(older.columns), Predictor(built).of_features)
    own = Bundle(built.graph, {**built.card, "explanation": about}, {explain.EXTRA: content})
    _, contributions = Explanation(own, Predictor(own).of_features).parts(matrix)
    theirs = estimator.get_booster().predict(xgboost.DMatrix(matrix), pred_contribs=True)[:, :-1]
    assert contributions == pytest.approx(theirs, abs=0.01)


def test_in_a_linear_model_a_feature_adds_the_same_whatever_the_others_are(dataset, settings, tmp_path):
    trained = train.train(dataset, change(settings, "linear"), tmp_path / "model", print)
    linear = Predictor(bundle.read(trained.folder))
    assert linear.card["explanation"]["method"] == "sampled"
    matrix = problem.features(dataset.take(slice(40)).columns)
    matrix = matrix[~np.isnan(matrix).any(axis=1)]
    explainer = Explanation(bundle.read(trained.folder), linear.of_features)
    # Every row gets the first row's value of one feature: that feature then adds the same to all of them.
    matrix[:, 0] = matrix[0, 0]
    base, contributions = explainer.parts(matrix)
    if problem.TASK != "multiclass":
        assert contributions[:, 0] == pytest.approx(contributions[0, 0], abs=0.01)
    table = explain.scaled(linear.of_features(matrix), linear.card["explanation"]["scale"])
    assert base + contributions.sum(axis=1) == pytest.approx(table.max(axis=1), abs=1e-3)


def test_the_same_record_gets_the_same_parts_alone_and_among_others(explained, dataset):
    many = dataset.take(slice(50)).columns
    _, together = parts(explained, many)
    _, alone = parts(explained, dataset.take(slice(7, 8)).columns)
    assert alone[0] == pytest.approx(together[7], abs=1e-12)


def test_no_record_has_no_parts(explained, dataset):
    base, contributions = parts(explained, dataset.take(slice(0)).columns)
    assert (base.shape, contributions.shape) == ((0,), (0, len(problem.FEATURES)))


def test_a_model_that_was_made_without_says_so(trained, predictor, dataset):
    bare = dataclasses.replace(bundle.read(trained.folder), extras={})
    with pytest.raises(ModelError, match="train again"):
        parts(Explanation(bare, predictor.of_features), dataset.take(slice(1)).columns)


def test_a_damaged_file_is_refused_with_the_bundle(model_copy):
    content = (model_copy / explain.EXTRA).read_bytes()
    (model_copy / explain.EXTRA).write_bytes(content[:-10])
    with pytest.raises(ModelError, match="damaged"):
        bundle.read(model_copy)
