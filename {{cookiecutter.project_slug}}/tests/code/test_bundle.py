"""The bundle: written whole, read only when it is sound, and the same as its estimator."""

import copy
import hashlib
import json

import numpy as np
import pytest
from records import BOUNDED

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.base.errors import UserError
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.model.bundle import Bundle, MismatchError, ModelError
from {{ cookiecutter.__package }}.model.predictor import Predictor
from {{ cookiecutter.__package }}.training import export


def edit(folder, **values):
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | values))


def test_a_bundle_is_read_as_it_was_written(trained, model_copy):
    assert bundle.read(model_copy) == bundle.read(trained.folder)


def test_writing_replaces_the_old_bundle_and_leaves_nothing_else(model_copy):
    built = bundle.read(model_copy)
    bundle.write(Bundle(built.graph, {**built.card, "run_id": "another"}), model_copy)
    assert bundle.read(model_copy).version == "run-another"
    assert sorted(path.name for path in model_copy.parent.iterdir()) == ["model"]


def test_a_folder_without_a_model_says_what_to_run(tmp_path):
    with pytest.raises(ModelError, match="run `make train`"):
        bundle.read(tmp_path)


def test_a_truncated_graph_is_refused(model_copy):
    graph = (model_copy / "model.onnx").read_bytes()
    (model_copy / "model.onnx").write_bytes(graph[:-10])
    with pytest.raises(ModelError, match="damaged"):
        bundle.read(model_copy)


@pytest.mark.parametrize(
    "damage",
    [{"extras_sha256": {"9" * 400: ""}}, {"extras_sha256": {"": ""}}, {"extras_sha256": {"..": ""}}, {"format": "1"}],
)
def test_a_card_with_impossible_files_or_format_is_refused(model_copy, damage):
    edit(model_copy, **damage)
    with pytest.raises(ModelError, match="damaged"):
        bundle.read(model_copy)


def test_a_card_that_is_no_json_is_refused(model_copy):
    (model_copy / "model.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        bundle.read(model_copy)


@pytest.mark.parametrize(
    "damage", [{"golden": {}}, {"golden": {"features": [[1], [2, 3]]}}, {"record": 7}, {"decision": []}]
)
def test_a_card_that_lacks_what_it_should_say_is_refused_in_one_line(trained, damage):
    found = bundle.read(trained.folder)
    with pytest.raises(ModelError) as refused:
        Predictor(Bundle(found.graph, {**found.card, **damage}, found.extras))
    assert "train again" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_card_that_names_files_elsewhere_is_refused(model_copy):
    secret = model_copy.parent / "secret"
    secret.write_bytes(b"secret")
    edit(model_copy, extras_sha256={"../secret": hashlib.sha256(b"secret").hexdigest()})
    with pytest.raises(ModelError, match="files elsewhere"):
        bundle.read(model_copy)


def test_a_bundle_of_a_later_format_is_refused(model_copy):
    edit(model_copy, format=bundle.FORMAT + 1)
    with pytest.raises(ModelError, match="newer version"):
        bundle.read(model_copy)


def test_a_model_for_other_features_is_refused(model_copy):
    edit(model_copy, features=["nothing of the kind"])
    with pytest.raises(ModelError, match="nothing of the kind"):
        Predictor(bundle.read(model_copy))


def test_a_model_for_another_record_is_refused_and_its_field_named(model_copy):
    built = bundle.read(model_copy)
    record = copy.deepcopy(built.card["record"])
    record["properties"][BOUNDED.name] |= {"title": "Said otherwise", "description": "Said otherwise"}
    Predictor(Bundle(built.graph, {**built.card, "record": record}))
    record["properties"][BOUNDED.name] = {"type": "integer"}
    with pytest.raises(MismatchError, match=f"records with another {BOUNDED.name}"):
        Predictor(Bundle(built.graph, {**built.card, "record": record}))


@pytest.mark.parametrize("place", sorted({0, len(problem.FEATURES) // 2, len(problem.FEATURES) - 1}))
def test_features_that_mean_something_else_under_the_same_name_are_refused(model_copy, monkeypatch, place):
    whole = problem.features

    def turned(columns):
        matrix = whole(columns)
        matrix[:, place] = -matrix[:, place] - 1
        return matrix

    monkeypatch.setattr(problem, "features", turned)
    with pytest.raises(MismatchError, match=f"makes another {problem.FEATURES[place]} than"):
        Predictor(bundle.read(model_copy))


def test_the_golden_rows_have_every_choice(trained):
    records = trained.card["golden"]["records"]
    for field in schema.FIELDS:
        assert set(field.choices) <= {record.get(field.name) for record in records}


def test_a_machine_that_answers_otherwise_is_found_out(model_copy):
    built = bundle.read(model_copy)
    golden = {**built.card["golden"], "scores": (np.array(built.card["golden"]["scores"]) * 1.1 + 0.1).tolist()}
    with pytest.raises(ModelError, match="answers otherwise than where it was made"):
        Predictor(Bundle(built.graph, {**built.card, "golden": golden}))


def test_a_file_that_is_no_graph_is_refused(model_copy):
    built = bundle.read(model_copy)
    with pytest.raises(ModelError, match="cannot be loaded"):
        Predictor(Bundle(b"not a graph", built.card))


def test_parity_fails_beyond_the_tolerance_and_for_nan():
    expected = np.array([1.0, 2.0])
    assert export.check_parity(expected, expected + 0.0005, 0.001) == pytest.approx(0.0005)
    for wrong in (expected + 0.002, np.array([1.0, np.nan])):
        with pytest.raises(UserError, match="differs from the estimator"):
            export.check_parity(expected, wrong, 0.001)
