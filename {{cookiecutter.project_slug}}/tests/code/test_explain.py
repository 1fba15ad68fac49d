"""Explanations: parts that sum to the score, and are the Shapley values that they say they are."""

import dataclasses
import io
import itertools
import math

import numpy as np
import pytest

from {{ cookiecutter.__package }} import evaluate, explain, export, leaves, package, problem, train
from {{ cookiecutter.__package }}.package import ModelError, Package
from {{ cookiecutter.__package }}.predictor import Predictor


def change(settings, **model):
    return settings.model_copy(update={"model": settings.model.model_copy(update=model)})


def wanted(predictor, columns):
    """The scores on the scale that explanations are on; of several classes the most probable one's."""
    table = explain.scaled(predictor.scores(columns), predictor.card["explanation"]["scale"])
    return table.max(axis=1)


def test_the_parts_of_a_model_of_trees_are_exact_and_sum_to_its_scores(predictor, dataset):
    assert predictor.card["explanation"]["method"] == "exact"
    few = dataset.take(slice(100)).columns
    base, contributions = predictor.explain(few)
    assert contributions.shape == (100, len(problem.FEATURES))
    assert base + contributions.sum(axis=1) == pytest.approx(wanted(predictor, few), abs=0.005)
    assert np.ptp(base) == pytest.approx(0) or problem.TASK == "multiclass"


def test_each_part_is_the_average_over_all_orders_of_what_a_feature_changes(trained, dataset):
    """The definition (Shapley 1953), leaf by leaf and set by set, against the quadrature."""
    with np.load(io.BytesIO(package.read(trained.folder).explainer)) as file:
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

    whole = change(settings, estimator="xgboost", xgboost={**settings.model.xgboost, "subsample": 1.0})
    trained = train.train(dataset, whole, tmp_path / "model", print)
    older, newest = (dataset.take(slice(0, 2_400)), dataset.take(slice(2_400, 2_500)))
    estimator = evaluate.fit(problem.features(older.columns), older.target, whole)
    built = Package(export.to_onnx(estimator), trained.card)
    matrix = problem.features(newest.columns)
    content, about = leaves.explained(built, problem.features(older.columns), Predictor(built).of_features)
    own = Predictor(Package(built.graph, {**built.card, "explanation": about}, content))
    _, contributions = own.explain(newest.columns)
    theirs = estimator.get_booster().predict(xgboost.DMatrix(matrix), pred_contribs=True)[:, :-1]
    assert contributions == pytest.approx(theirs, abs=0.01)


def test_in_a_linear_model_a_feature_adds_the_same_whatever_the_others_are(dataset, settings, tmp_path):
    trained = train.train(dataset, change(settings, estimator="linear"), tmp_path / "model", print)
    linear = Predictor(package.read(trained.folder))
    assert linear.card["explanation"]["method"] == "sampled"
    matrix = problem.features(dataset.take(slice(40)).columns)
    matrix = matrix[~np.isnan(matrix).any(axis=1)]
    explainer = explain.Explainer(package.read(trained.folder), linear.of_features)
    # Every row gets the first row's value of one feature: that feature then adds the same to all of them.
    matrix[:, 0] = matrix[0, 0]
    base, contributions = explainer(matrix)
    if problem.TASK != "multiclass":
        assert contributions[:, 0] == pytest.approx(contributions[0, 0], abs=0.01)
    table = explain.scaled(linear.of_features(matrix), linear.card["explanation"]["scale"])
    assert base + contributions.sum(axis=1) == pytest.approx(table.max(axis=1), abs=1e-3)


def test_the_same_record_gets_the_same_parts_alone_and_among_others(predictor, dataset):
    many = dataset.take(slice(50)).columns
    _, together = predictor.explain(many)
    _, alone = predictor.explain(dataset.take(slice(7, 8)).columns)
    assert alone[0] == pytest.approx(together[7], abs=1e-12)


def test_no_record_has_no_parts(predictor, dataset):
    base, contributions = predictor.explain(dataset.take(slice(0)).columns)
    assert (base.shape, contributions.shape) == ((0,), (0, len(problem.FEATURES)))


def test_a_model_that_was_packaged_without_says_so(trained, dataset):
    bare = dataclasses.replace(package.read(trained.folder), explainer=b"")
    with pytest.raises(ModelError, match="train again"):
        Predictor(bare).explain(dataset.take(slice(1)).columns)


def test_a_damaged_file_is_refused_with_the_package(model_copy):
    content = (model_copy / package.EXPLAINER).read_bytes()
    (model_copy / package.EXPLAINER).write_bytes(content[:-10])
    with pytest.raises(ModelError, match="damaged"):
        package.read(model_copy)
