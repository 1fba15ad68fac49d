"""The HTTP service: `POST /predict` takes one record or a list of them; a list gets a list."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import secrets
import socket
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from flask import Flask, Response, abort, render_template, request
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json
from werkzeug.exceptions import HTTPException

from .. import problem
from ..base import params
from ..base.errors import Parser, UserError
from ..data import schema
from ..model.bundle import ModelError
from ..model.predictor import PREDICTION, Predicts
from . import served_model

RECORD = TypeAdapter(schema.Keyed)
MAX_ERRORS = 20
"""The number of bad fields that an error lists; the rest is counted."""

SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of each page and error: resources of this service only, no framing; responses are not sniffed as pages."""


class Web(params.Section):
    """The limits of a request."""

    table = "web"
    max_records: int = Field(default=1_000, ge=1)
    max_bytes: int = Field(default=1_000_000, ge=1)


def create_app(predictor: Predicts | None, limits: Web | None = None, why_not: str = "") -> Flask:
    """The Flask application for a predictor; with `None` it answers 503 with `why_not`."""
    app = Flask(__name__)
    limits = limits or Web()
    app.config["MAX_CONTENT_LENGTH"] = limits.max_bytes
    app.jinja_env.policies["json.dumps_kwargs"] = {"sort_keys": False}
    # A service that follows the champion may answer with other fields later.
    api = functools.partial(_openapi, app, predictor, limits)
    records = TypeAdapter(Annotated[list[schema.Keyed], Field(max_length=limits.max_records)])

    def gone() -> Response:
        return _problem(503, "no model is loaded", why_not)

    @app.post("/predict")
    def predict() -> Response:
        return _predict(predictor, limits, records) if predictor else gone()

    @app.get("/version")
    def version() -> Response:
        card = predictor.card if predictor else {}
        known = {name: card.get(name) for name in ("name", "model_version", "run_id", "git_commit", "created")}
        return _json({**known, **card.get("serving", {}), "python": platform.python_version()})

    @app.route("/", methods=["GET", "POST"])
    def page() -> Response:
        posted = request.method == "POST"
        # Over plain HTTP browsers send no Sec-Fetch-Site.
        other = request.headers.get("Origin", request.host_url).rstrip("/").rpartition("://")[2] != request.host
        site = request.headers.get("Sec-Fetch-Site", "cross-site" if other else "none")
        if posted and site not in ("same-origin", "none"):
            abort(403, "a page of another site may not have its visitors fill the log of predictions")
        sent = request.form if posted else request.args
        given = {field.name: sent[field.name] for field in schema.FIELDS if sent.get(field.name)}
        answer, errors = _asked(predictor, given) if posted and predictor else ({}, {})
        known = {"problem": problem, "columns": schema.FIELDS, "card": predictor and predictor.card, "why_not": why_not}
        shown = known | {"answer": answer, "errors": errors, "given": given if posted or given else problem.EXAMPLE}
        status = 422 if errors else 503 if posted and not predictor else 200
        return Response(render_template("index.html", api=api(), **shown), status, SAFE)

    app.add_url_rule("/ping", "ping", lambda: Response("PONG", mimetype="text/plain"))
    app.add_url_rule("/livez", "livez", lambda: _json({"status": "alive"}))
    app.add_url_rule("/readyz", "readyz", lambda: _json({"status": "ready"}) if predictor else gone())
    app.add_url_rule("/openapi.json", "specification", lambda: _json(api()))
    app.add_url_rule("/docs", "docs", lambda: Response(render_template("docs.html", api=api()), 200, SAFE))
    if counted := getattr(predictor, "metrics", None):
        app.add_url_rule("/metrics", view_func=lambda: Response(counted(), content_type="text/plain; version=0.0.4"))
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(
        UnicodeDecodeError, lambda error: _problem(400, "not UTF-8", f"the query is not UTF-8: {error}")
    )
    return app


def _openapi(app: Flask, predictor: Predicts | None, limits: Web) -> dict[str, Any]:
    """The service's OpenAPI 3.1 description, generated from the schemas of `Record` and `Answer`."""
    record = schema.Keyed.model_json_schema(ref_template="#/components/schemas/{model}")
    said = problem.Record.model_json_schema()
    record |= {"title": said["title"], "description": said.get("description", "")}
    record["properties"][problem.ID] |= {"description": "What the sender calls this record, if anything"}
    answer = problem.Answer.model_json_schema()
    fields, additions = (predictor.fields, predictor.additions) if predictor else ({}, {})
    answer["properties"] |= fields
    answer["properties"][PREDICTION] = {"type": "string", "description": "Names this prediction; never the same twice"}
    answer["required"] = list(answer["properties"])
    answer["properties"] |= {addition.field: addition.schema for addition in additions.values()}
    known = {"name": params.names()["name"], "record": record, "answer": answer, "problem": problem}
    with app.app_context():
        return dict(json.loads(render_template("openapi.json.jinja", additions=additions, limits=limits, **known)))


def _predict(predictor: Predicts, limits: Web, adapter: TypeAdapter[list[Any]]) -> Response:
    """The answer to a request, or an error."""
    predictor = predictor.snapshot()
    environ = request.environ
    # Most clients send exactly this; parsing the header costs more than the rest of the check.
    if environ.get("CONTENT_TYPE") != "application/json" and request.mimetype != "application/json":
        return _problem(415, "not JSON", f"Content-Type is {request.mimetype or 'missing'}; send application/json")
    wanted: list[str] = []
    for name, value in request.args.items() if environ["QUERY_STRING"] else ():
        if name not in predictor.additions or value not in ("true", "false"):
            known = ", ".join(f"{each}=true" for each in predictor.additions) or "no parameter"
            return _problem(422, "invalid parameter", f"{name}={value} is not understood; there is {known}")
        wanted += [name] * (value == "true")
    body = _body(environ, limits.max_bytes)
    many = body.lstrip()[:1] == b"["
    try:
        records = adapter.validate_json(body) if many else [RECORD.validate_json(body)]
    except ValidationError as error:
        predictor.refused(1)
        return _refuse(error)
    most = min([limits.max_records, *(predictor.additions[name].most for name in wanted)])
    if len(records) > most:
        return _problem(413, "too many records", f"at most {most} at once with {' and '.join(wanted)}")
    name = secrets.token_hex(16)
    names = [f"{name}-{number}" for number in range(len(records))] if many else [name]
    rows, columns = _answered(predictor, records, names)
    for each in wanted:
        try:
            for row, value in zip(rows, predictor.additions[each].rows(columns), strict=True):
                row[predictor.additions[each].field] = value
        except ModelError as error:
            return _problem(422, f"{each} is not possible", str(error))
    # For the access log.
    environ["prediction"] = rows[0]["model_version"] if rows else "", name
    return _json(rows if many else rows[0])


def _answered(predictor: Predicts, records: list[Any], names: list[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """An answer for each record, and the records as columns."""
    ids = np.array([getattr(record, problem.ID) for record in records], object)
    columns = schema.columns(records) | {problem.ID: ids, PREDICTION: np.array(names, object)}
    answers = {name: each.tolist() for name, each in predictor.predict(columns).items()} | {PREDICTION: names}
    return [dict(zip(answers, row, strict=True)) for row in zip(*answers.values(), strict=True)], columns


def _asked(predictor: Predicts, given: dict[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The answer for the input of the page's form, or the errors of its fields."""
    predictor = predictor.snapshot()
    # A form has only text: it is converted to the field's type, and a numeric choice to its number.
    typed = {
        field.name: next((each for each in field.choices if str(each) == given[field.name]), given[field.name])
        for field in schema.FIELDS
        if field.name in given
    }
    try:
        record = RECORD.validate_python(typed, strict=False)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return {}, {str(each["loc"][0]) if each["loc"] else "": each["msg"] for each in found}
    rows, columns = _answered(predictor, [record], [secrets.token_hex(16)])
    for addition in predictor.additions.values():
        with contextlib.suppress(ModelError):
            rows[0][addition.field] = addition.rows(columns)[0]
    return rows[0], {}


def _body(environ: Mapping[str, Any], most: int) -> bytes:
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdecimal() and int(length) <= most:
        # werkzeug's own reader, which also handles a missing length, would take a tenth of the request's time.
        return bytes(environ["wsgi.input"].read(int(length)))
    return request.get_data(cache=False)


def _json(content: Any) -> Response:
    return Response(to_json(content, inf_nan_mode="null"), content_type="application/json")


def _problem(status: int, title: str, detail: str, **more: Any) -> Response:
    """An error in the format of RFC 9457."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
    return Response(json.dumps(content), status, SAFE, mimetype="application/problem+json")


def _http_error(error: HTTPException) -> Response:
    answer = _problem(error.code or 500, error.name.lower(), error.description or "")
    answer.headers.extend((name, value) for name, value in error.get_headers() if name == "Allow")
    return answer


def _refuse(error: ValidationError) -> Response:
    """400 for what is not JSON, else 422 with each field, its value and what was expected."""
    # The context may have exception objects and the input the whole body: neither belongs in a response.
    first = error.errors(include_context=False, include_input=False)[0]
    whole = {"json_invalid": (400, "not JSON"), "too_long": (413, "too many records")}.get(first["type"])
    if whole and not first["loc"]:
        return _problem(*whole, first["msg"])
    found = error.errors(include_url=False, include_context=False)
    errors = [
        {
            "field": ".".join(str(part) for part in each["loc"]) or "(body)",
            "value": _shown(each["input"]) if each["type"] != "missing" else None,
            "expected": each["msg"],
        }
        for each in found[:MAX_ERRORS]
    ]
    return _problem(422, "invalid record", schema.reason(error), errors=errors)


def _shown(value: Any) -> Any:
    """The value as a response shows it: itself if it is short and plain, else the start of its text."""
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and abs(value) < 2**53):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


def app() -> Flask:
    """Gunicorn calls this in each worker; if the model is gone since the start, the worker answers 503 instead of dying."""
    from gunicorn.http import errors

    try:
        made = create_app(served_model.answering(), Web.load())
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        made = create_app(None, why_not=str(error))
    # gunicorn parses a chunked body while it is read.
    chunks = errors.InvalidChunkSize, errors.ChunkMissingTerminator, errors.InvalidChunkExtension, errors.NoMoreData
    for kind in (errors.ParseException, *chunks):
        made.register_error_handler(kind, lambda error: _problem(400, "malformed request", str(error)))
    return made


def main() -> None:
    """`make serve`: check that there is a model and a free port, then start gunicorn."""
    parser = Parser(prog="make serve", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9696, help="make serve PORT=9700")
    given = parser.parse_args()
    if os.name == "nt":
        raise UserError("gunicorn does not run on Windows: use WSL, or the container image")
    # The workers read the fetched models from disk: this keeps MLflow out of them.
    served_model.begin()
    version = served_model.answering().card["model_version"]
    with socket.socket(socket.AF_INET6 if ":" in given.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((given.host, given.port))
        except (OSError, OverflowError) as error:
            raise UserError(f"port {given.port} cannot be used ({error}): try make serve PORT=9700") from None
    print(f"serving model {version} on http://{given.host}:{given.port} (Ctrl-C stops it)", flush=True)
    # gunicorn replaces this process: the memory that fetching needed is freed.
    command = [sys.executable, "-m", "gunicorn", "--config", str(params.ROOT / "gunicorn.conf.py")]
    os.execv(sys.executable, [*command, "--bind", f"{given.host}:{given.port}", f"{__name__}:app()"])
