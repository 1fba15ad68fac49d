"""The HTTP service: one record or many, and a helpful refusal of everything else."""

import json
import re
import sys

import numpy as np
import pytest
from records import ANSWER, BOUNDED, REQUIRED, WRONG, broken, several

from {{ cookiecutter.__package }} import problem
from {{ cookiecutter.__package }}.data import schema
from {{ cookiecutter.__package }}.serving import app
from {{ cookiecutter.__package }}.serving.app import Web

LIMITS = Web(max_records=5, max_bytes=100_000)


@pytest.fixture
def client(predictor):
    return app.create_app(predictor, LIMITS).test_client()


def test_ping_answers_pong(client):
    assert client.get("/ping").text == "PONG"


def test_one_record_gets_one_answer(client, predictor):
    answer = client.post("/predict", json=problem.EXAMPLE).json
    record = problem.Record.model_validate(problem.EXAMPLE, strict=False)
    expected = predictor.predict(schema.columns([record]))
    assert list(answer) == [*ANSWER, "model_version", "prediction_id"]
    assert [answer[name] for name in ANSWER] == [expected[name][0] for name in ANSWER]
    assert answer["model_version"] == predictor.card["model_version"]


@pytest.mark.parametrize("name", [field.name for field in REQUIRED if field.kind is int])
def test_a_whole_number_may_be_written_with_a_point(client, name):
    body = json.dumps({**problem.EXAMPLE, name: float(problem.EXAMPLE[name])})
    assert f'"{name}": {problem.EXAMPLE[name]}.0' in body
    assert client.post("/predict", data=body, content_type="application/json").status_code == 200


def test_a_list_gets_a_list_in_the_same_order(client):
    records = several(3)
    answers = client.post("/predict", json=records).json
    singly = [client.post("/predict", json=record).json[ANSWER[0]] for record in records]
    assert [answer[ANSWER[0]] for answer in answers] == singly
    assert len({answer["prediction_id"] for answer in answers}) == 3
    assert client.post("/predict", json=[]).json == []


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_bad_field_is_named_with_its_value_and_what_was_expected(client, field, value):
    response = client.post("/predict", json={**problem.EXAMPLE, field: value})
    assert response.status_code == 422
    assert response.mimetype == "application/problem+json"
    (error,) = response.json["errors"]
    assert (error["field"], error["value"]) == (field, value)
    assert error["expected"]


def test_every_field_that_is_required_is_missed(client):
    errors = client.post("/predict", json={}).json["errors"]
    assert [error["field"] for error in errors] == [field.name for field in REQUIRED][: app.MAX_ERRORS]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"a": "\xff"}', 400),
        (b"[" * 90_000, 400),
        (b"null", 422),
        (b'"text"', 422),
        (b"{}", 422),
        (b"[[]]", 422),
        (json.dumps(dict.fromkeys(problem.EXAMPLE, float("nan"))).encode(), 422),
        (json.dumps(dict.fromkeys(problem.EXAMPLE, float("inf"))).encode(), 422),
        (b" " * 100_001, 413),
        (json.dumps([problem.EXAMPLE] * 6).encode(), 413),
    ],
)
def test_a_bad_body_is_refused_as_a_problem(client, body, status):
    response = client.post("/predict", data=body, content_type="application/json")
    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert response.json["status"] == status
    assert "Traceback" not in response.text


def test_a_long_list_of_empty_records_takes_little_memory(predictor):
    """Three bytes of a body are a record: they are counted before they are looked at."""
    resource = pytest.importorskip("resource", reason="peak memory is read by a module of Linux and macOS")
    client = app.create_app(predictor, Web(max_bytes=1_000_000)).test_client()
    body = b"[" + b",".join([b"{}"] * 300_000) + b"]"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = client.post("/predict", data=body, content_type="application/json")
    assert answer.status_code == 413
    assert "1000" in answer.json["detail"]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    megabyte = 2**20 if sys.platform == "darwin" else 2**10
    assert grown < 200 * megabyte, f"{grown / megabyte:.0f} MB more"


def test_other_content_paths_and_methods_are_problems_too(client):
    for response, status in [
        (client.post("/predict", data="x=1"), 415),
        (client.get("/predict"), 405),
        (client.get("/nothing"), 404),
    ]:
        assert (response.status_code, response.json["status"]) == (status, status)


def test_without_a_model_only_readiness_and_predictions_fail():
    client = app.create_app(None, why_not="it is gone").test_client()
    assert client.get("/livez").status_code == 200
    for response in (client.get("/readyz"), client.post("/predict", json=problem.EXAMPLE)):
        assert (response.status_code, response.json["detail"]) == (503, "it is gone")
    for page, status in ((client.get("/"), 200), (client.post("/", data={}), 503)):
        assert (page.status_code, "it is gone" in page.text) == (status, True)


def test_a_worker_whose_model_is_gone_says_so_instead_of_dying(monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_URI", str(tmp_path))
    response = app.app().test_client().get("/readyz")
    assert response.status_code == 503
    assert "no model in" in response.json["detail"]


def test_the_page_has_a_field_for_each_of_the_record_and_the_model_s_card(client, predictor):
    page = client.get("/").text
    assert all(f'name="{name}"' in page for name in problem.Record.model_fields)
    assert predictor.card["run_id"] in page


FILLED = {name: value if isinstance(value, str) else json.dumps(value) for name, value in problem.EXAMPLE.items()}
"""The example as a browser sends a form."""


def message(page, name):
    """What the page says beside a field."""
    return re.search(rf'id="{name}-error">([^<]*)<', page)[1]


def test_a_form_is_answered_as_its_record_is(client):
    answer = client.post("/", data=FILLED)
    assert answer.status_code == 200
    assert not any(message(answer.text, name) for name in problem.Record.model_fields)
    said = re.search(r"<strong>(.*?)</strong>", answer.text)[1]
    expected = client.post("/predict", json=problem.EXAMPLE).json[problem.TARGET]
    if problem.TASK == "regression":
        assert float(said.replace(",", "")) == pytest.approx(expected, rel=0.01)
    else:
        assert said == {"True": "yes", "False": "no"}.get(str(expected), str(expected).replace("_", " "))


@pytest.mark.parametrize("value", [broken(BOUNDED), ""])
def test_a_message_stands_beside_the_field_that_it_is_about(client, value):
    answer = client.post("/", data={**FILLED, BOUNDED.name: value})
    assert answer.status_code == 422
    others = [name for name in problem.Record.model_fields if name != BOUNDED.name]
    assert message(answer.text, BOUNDED.name)
    assert not any(message(answer.text, name) for name in others)


def test_what_a_form_holds_is_shown_again_and_a_slip_is_no_refused_record(predictor, monkeypatch):
    refused = []
    monkeypatch.setattr(predictor, "refused", refused.append, raising=False)
    page = app.create_app(predictor).test_client().post("/", data={**FILLED, REQUIRED[0].name: "<b>&"})
    assert not refused
    assert "&lt;b&gt;&amp;" in page.text or REQUIRED[0].choices
    assert "<b>&" not in page.text


def test_a_link_fills_the_form_and_predicts_nothing(client):
    record = {name: value if isinstance(value, str) else json.dumps(value) for name, value in several(1)[0].items()}
    link = re.search(r'id="share" href="([^"]*)"', client.post("/", data=record).text)[1].replace("&amp;", "&")
    page = client.get(link).text
    assert "<strong>" not in page
    for name, value in record.items():
        field = page[page.index(f'name="{name}"') : page.index(f'id="{name}-error"')]
        assert f'value="{value}"{" selected" * ("<option" in field)}' in field


def test_the_page_shows_an_interval_or_a_set_where_an_answer_has_one(predictor, monkeypatch):
    plain = predictor.predict
    for more, said in [
        ({}, None),
        ({"low": np.array([1.25]), "high": np.array([2.5])}, "between <b>1.25</b> and <b>2.50</b>"),
        ({"low": np.array([np.nan]), "high": np.array([np.nan])}, None),
        ({"prediction_set": np.array(["this,that"], object)}, "<b>this</b>, <b>that</b>"),
    ]:
        monkeypatch.setattr(predictor, "predict", lambda columns, more=more: {**plain(columns), **more})
        page = app.create_app(predictor).test_client().post("/", data=FILLED).text
        assert said in page if said else "between <b>" not in page


def test_a_page_of_another_site_can_neither_ask_here_nor_show_this_one(client):
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://elsewhere.example"},
        {"Origin": "http://[localhost"},
    ):
        assert client.post("/", data=FILLED, headers=headers).status_code == 403
    assert client.post("/", data=FILLED, headers={"Origin": "http://localhost"}).status_code == 200
    for answer in (client.get("/"), client.get("/docs"), client.get("/nothing")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_parameter_that_is_unknown_is_refused(client):
    answer = client.post("/predict?explian=true", json=problem.EXAMPLE)
    assert (answer.status_code, answer.json["title"]) == (422, "invalid parameter")
    assert "explian=true is not understood" in answer.json["detail"]


def test_a_query_that_is_not_utf_8_is_refused(client):
    answer = client.post("/predict", json=problem.EXAMPLE, environ_overrides={"QUERY_STRING": "explain=\xbf"})
    assert (answer.status_code, answer.json["title"]) == (400, "not UTF-8")


def test_the_description_lists_every_path_and_the_docs_show_it(client):
    api = client.get("/openapi.json").json
    assert api["openapi"].startswith("3.1")
    assert set(api["paths"]) == {"/predict", "/ping", "/livez", "/readyz", "/version"}
    assert all(path in client.get("/docs").text for path in api["paths"])


def test_version_tells_where_the_model_comes_from(client, trained):
    assert client.get("/version").json["run_id"] == trained.run_id
