"""Champion and challenger as one predictor: who answers is decided by the record's key alone."""

import math
import time
from decimal import Decimal

import numpy as np
import pytest
from records import several

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.model import bundle
from {{ cookiecutter.__package }}.model.ab_split import Split, known_as, place
from {{ cookiecutter.__package }}.model.bundle import Bundle
from {{ cookiecutter.__package }}.model.explain import Explaining
from {{ cookiecutter.__package }}.model.predictor import RECORDS, Predictor


@pytest.fixture(scope="module")
def two(trained):
    """A champion and a challenger: one model under two versions."""
    found = bundle.read(trained.folder)
    bundles = [Bundle(found.graph, {**found.card, "model_version": number}, found.extras) for number in ("1", "2")]
    return [Explaining(Predictor(each), each) for each in bundles]


def named(count, prefix="key"):
    records = RECORDS.validate_python(several(count), strict=False)
    ids = np.array([f"{prefix}-{number}" for number in range(count)], object)
    return schema.columns(records) | {problem.ID: ids}


def test_without_a_challenger_the_champion_answers(two):
    answers = Split(two[0]).predict(named(3))
    assert answers["role"].tolist() == ["champion"] * 3
    assert answers["model_version"].tolist() == ["1"] * 3


def test_a_share_of_ten_thousand_keys_goes_to_the_challenger_within_chance():
    tried = sum(place("experiment", f"key-{number}") < 0.2 for number in range(10_000))
    assert abs(tried - 2_000) < 4 * math.sqrt(10_000 * 0.2 * 0.8)


def test_a_key_has_the_same_place_on_every_machine_and_in_every_version_of_python():
    assert place("night bus", "record 7") == pytest.approx(0.2554837410109729, abs=1e-12)


@pytest.mark.parametrize("given", [7, 7.0, "7", "7.0", " 7", b"7", Decimal("7.00")], ids=repr)
def test_an_id_is_the_same_wherever_it_comes_from(given):
    assert known_as(given) == "7"


@pytest.mark.parametrize("given", [None, float("nan"), "", " "], ids=repr)
def test_no_id_is_none(given):
    assert known_as(given) is None


def test_another_experiment_mixes_anew():
    both = [(place("one", str(number)) < 0.5, place("other", str(number)) < 0.5) for number in range(2_000)]
    assert 350 < sum(one and other for one, other in both) < 650


def test_a_larger_share_keeps_those_who_were_in_already(two):
    small, large = (Split(*two, share, "experiment").predict(named(200))["role"] for share in (0.2, 0.5))
    assert set(np.flatnonzero(small == "challenger")) < set(np.flatnonzero(large == "challenger"))


def test_each_record_has_the_answer_of_the_model_that_was_asked(two):
    columns = named(100)
    answers = Split(*two, 0.4, "experiment").predict(columns)
    expected = two[0].predict(columns)
    assert set(answers["role"].tolist()) == {"champion", "challenger"}
    for name in problem.Answer.model_fields:
        assert answers[name].tolist() == expected[name].tolist()
    assert [version == "2" for version in answers["model_version"]] == [
        role == "challenger" for role in answers["role"]
    ]


def test_a_record_alone_is_sent_as_it_is_among_others(two):
    split, columns = Split(*two, 0.4, "experiment"), named(40)
    together = split.predict(columns)["role"].tolist()
    alone = [split.predict({name: values[[at]] for name, values in columns.items()})["role"][0] for at in range(40)]
    assert alone == together


def test_without_an_id_the_record_itself_is_the_key(two):
    records = RECORDS.validate_python(several(60), strict=False)
    split = Split(*two, 0.5, "experiment")
    roles = [split.predict(schema.columns(records))["role"].tolist() for _ in range(2)]
    assert roles[0] == roles[1]
    assert set(roles[0]) == {"champion", "challenger"}


def test_no_records_have_no_answers(two):
    answers = Split(*two, 0.4, "experiment").predict({name: values[:0] for name, values in named(1).items()})
    assert {len(values) for values in answers.values()} == {0}


def test_an_explanation_is_of_the_model_that_answers(two):
    split, columns = Split(*two, 0.4, "experiment"), named(20)
    assert split.additions["explain"].rows(columns) == two[0].additions["explain"].rows(columns)
    base = split.additions["explain"].columns(columns)["base_value"]
    assert np.allclose(base, two[0].additions["explain"].columns(columns)["base_value"])


def test_a_shadow_is_noted_and_never_sent(two):
    noted = []
    split = Split(*two, 0, "experiment", 1.0, lambda columns, answers, _: noted.append((columns, answers)))
    answers = split.predict(named(5))
    assert set(answers["role"].tolist()) == {"champion"}
    deadline = time.monotonic() + 10
    while not noted and time.monotonic() < deadline:
        time.sleep(0.01)
    ((columns, said),) = noted
    assert columns[problem.ID].tolist() == [f"key-{number}" for number in range(5)]
    assert said["role"].tolist() == ["shadow"] * 5
    assert said["model_version"].tolist() == ["2"] * 5


def test_a_shadow_that_fails_is_not_seen_by_who_waits_for_the_champion(two, capfd):
    class Broken:
        card, fields, additions = two[1].card, two[1].fields, two[1].additions

        def predict(self, columns):
            raise ValueError("no")

    split = Split(two[0], Broken(), 0, "experiment", 1.0, lambda *_: None)
    assert len(split.predict(named(3))["role"]) == 3
    deadline = time.monotonic() + 10
    said = ""
    while "the shadow has no answer" not in said and time.monotonic() < deadline:
        time.sleep(0.05)
        said += capfd.readouterr().out
    assert "the shadow has no answer: ValueError: no" in said
