"""The service's description in OpenAPI 3.1, made from the record's schema."""

from __future__ import annotations

from typing import Any

from . import params, problem

JSON = "application/json"
PROBLEM = "application/problem+json"


def document(limits: params.Service) -> dict[str, Any]:
    """The whole document, ready for `json.dumps`."""
    record = problem.Record.model_json_schema(ref_template="#/components/schemas/{model}")
    answer = problem.Answer.model_json_schema()
    answer["properties"] |= {
        "model_version": {"type": "string", "description": "Registered version or run of the model that answered"},
        "prediction_id": {"type": "string", "description": "Names this prediction; never the same twice"},
    }
    answer["required"] = list(answer["properties"])
    answer["properties"]["explanation"] = EXPLANATION
    either = {
        "Record": {"$ref": "#/components/schemas/Record"},
        "Answer": {"$ref": "#/components/schemas/Answer"},
    }
    errors = {
        "400": "The body is not JSON",
        "413": f"Over {limits.max_bytes} bytes, {limits.max_records} records, or {limits.max_explained} to explain",
        "415": "The content type is not application/json",
        "422": "A field is missing or has a wrong value, or the model cannot be explained",
        "503": "No model is loaded",
    }
    predict = {
        "summary": "Predict for one record or for a list of them; the answer is of the same kind",
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "description": f"Also say what each feature adds to the score; of {limits.max_explained} records at most",
                "schema": {"type": "boolean", "default": False},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": _one_or_many(either["Record"], limits.max_records), "example": problem.EXAMPLE}
            },
        },
        "responses": {
            "200": _response("One answer a record, in the same order", _one_or_many(either["Answer"], None)),
            **{
                status: _response(text, {"$ref": "#/components/schemas/Problem"}, PROBLEM)
                for status, text in errors.items()
            },
        },
    }
    unready = {"503": _response("No model is loaded", {"$ref": "#/components/schemas/Problem"}, PROBLEM)}
    return {
        "openapi": "3.1.0",
        "info": {"title": params.names()["name"], "version": "1"},
        "paths": {
            "/predict": {"post": predict},
            "/ping": {"get": _get("Answers PONG", {"type": "string", "const": "PONG"}, "text/plain")},
            "/livez": {"get": _get("The process is alive", {"type": "object"})},
            "/readyz": {"get": _get("A model is loaded", {"type": "object"}, more=unready)},
            "/version": {"get": _get("Which model answers, and where it comes from", {"type": "object"})},
        },
        "components": {"schemas": {"Record": record, "Answer": answer, "Problem": PROBLEM_SCHEMA}},
    }


PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "value", "expected"],
                "properties": {"field": {"type": "string"}, "value": {}, "expected": {"type": "string"}},
            },
        },
    },
}

EXPLANATION = {
    "type": "object",
    "description": "With explain=true: parts that sum to the model's score, before it becomes the answer",
    "required": ["method", "unit", "base_value", "contributions", "score"],
    "properties": {
        "method": {"type": "string", "enum": ["exact", "sampled"]},
        "unit": {"type": "string", "description": "Of all parts; log-odds where the answer is a probability"},
        "base_value": {"type": "number", "description": "The score where nothing is known of the record"},
        "contributions": {"type": "object", "additionalProperties": {"type": "number"}},
        "score": {"type": "number", "description": "base_value and all contributions together"},
    },
}


def _one_or_many(schema: dict[str, Any], most: int | None) -> dict[str, Any]:
    many: dict[str, Any] = {"type": "array", "items": schema}
    return {"oneOf": [schema, many | ({"maxItems": most} if most else {})]}


def _response(text: str, schema: dict[str, Any], media: str = JSON) -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": schema}}}


def _get(summary: str, schema: dict[str, Any], media: str = JSON, more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _response(summary, schema, media), **(more or {})}}
