"""Explanations over HTTP: on request, for a limited number of records, and never in the way of an answer."""

import dataclasses
import json
import math

import pytest
from flask import request
from records import ANSWER, several

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.model import bundle, explain
from {{ cookiecutter.__package }}.serving import app, served_model


@pytest.fixture
def client(trained, monkeypatch):
    monkeypatch.setattr(explain.Explain, "load", lambda: explain.Explain(max_records=3))
    return app.create_app(served_model.build(bundle.read(trained.folder))).test_client()


def test_an_explanation_is_parts_that_sum_to_the_score(client):
    record = several(1)[0]
    plain, explained = (client.post(f"/predict{query}", json=record).json for query in ("", "?explain=true"))
    assert "explanation" not in plain
    assert explained[ANSWER[0]] == plain[ANSWER[0]]
    why = explained["explanation"]
    assert list(why["contributions"]) == list(problem.FEATURES)
    assert why["base_value"] + sum(why["contributions"].values()) == pytest.approx(why["score"])
    if problem.TASK == "binary":
        assert 1 / (1 + math.exp(-why["score"])) == pytest.approx(plain[ANSWER[0]], abs=1e-3)


def test_the_access_log_gets_the_prediction_s_id_with_an_explanation_too(client):
    with client:
        answer = client.post("/predict?explain=true", json=several(1)[0]).json
        assert request.environ["prediction"] == (answer["model_version"], answer["prediction_id"])


def test_of_a_list_each_record_is_explained(client):
    answers = client.post("/predict?explain=true", json=several(3)).json
    assert len({json.dumps(answer["explanation"]) for answer in answers}) == 3


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [("maybe", 422, "explain=maybe is not understood"), ("true", 413, "at most 3 at once with explain")],
)
def test_an_explanation_that_cannot_be_given_is_refused(client, query, status, said):
    answer = client.post(f"/predict?explain={query}", json=several(1) * 4)
    assert answer.status_code == status
    assert said in answer.json["detail"]


def test_the_page_has_a_bar_for_what_each_feature_adds(client):
    filled = {name: value if isinstance(value, str) else json.dumps(value) for name, value in problem.EXAMPLE.items()}
    page = client.post("/", data=filled).text
    why = page[page.index("<h3>Why") : page.index('id="share"')]
    parts = client.post("/predict?explain=true", json=problem.EXAMPLE).json["explanation"]["contributions"]
    assert why.count("<rect") == min(10, len(parts))
    largest = max(parts.values(), key=abs)
    assert f"{largest:+.3g}" in why
    assert 'width="100.0"' in why


def test_a_model_without_explanations_still_answers(trained):
    bare = dataclasses.replace(bundle.read(trained.folder), extras={})
    client = app.create_app(served_model.build(bare)).test_client()
    assert client.post("/predict", json=several(1)[0]).status_code == 200
    assert "<h3>Why" not in client.post("/", data=several(1)[0]).text
    answer = client.post("/predict?explain=true", json=several(1)[0])
    assert answer.status_code == 422
    assert "train again" in answer.json["detail"]


def test_the_description_and_the_docs_have_the_parameter_and_its_answer(client):
    api = client.get("/openapi.json").json
    (parameter,) = api["paths"]["/predict"]["post"]["parameters"]
    assert parameter["name"] == "explain"
    assert "explanation" in api["components"]["schemas"]["Answer"]["properties"]
    assert "explain" in client.get("/docs").text
