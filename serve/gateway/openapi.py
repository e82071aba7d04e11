"""The API as an OpenAPI 3.1 document, made from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from serve import __version__
from serve.gateway.routes import Operation

Json = dict[str, Any]
_REF = "#/components/schemas/{model}"


def document(operations: Sequence[Operation]) -> Json:
    """The OpenAPI document."""
    schemas: Json = {"Error": _ERROR}
    paths: dict[str, Json] = {}
    for one in operations:
        words = re.sub(r"[^a-z0-9]+", "_", one.path.lower()).strip("_")
        entry: Json = {
            "operationId": f"{one.method.lower()}_{words}",
            "summary": one.summary,
            "responses": {
                "200": {"description": one.answer, "content": _content(one)},
                "default": {
                    "description": "An error.",
                    "content": {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}},
                },
            },
        }
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", one.path)
        ]
        if one.query is not None:
            parameters += [
                {"name": name, "in": "query", "required": False, "schema": schema}
                for name, schema in _schema(one.query, schemas)["properties"].items()
            ]
        if parameters:
            entry["parameters"] = parameters
        if one.body is not None:
            schemas[one.body.__name__] = _schema(one.body, schemas)
            reference = {"schema": {"$ref": _REF.format(model=one.body.__name__)}}
            entry["requestBody"] = {"required": True, "content": {one.body_type: reference}}
        paths.setdefault(one.path, {})[one.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": "GroupQwen", "version": __version__, "description": "OpenAI's API over a group of models."},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
        "paths": paths,
    }


def _schema(kind: type[BaseModel], schemas: Json) -> Json:
    """The JSON schema of ``kind``; the types that it uses are put among ``schemas``."""
    schema = kind.model_json_schema(ref_template=_REF)
    schemas.update(schema.pop("$defs", {}))
    return schema


def _content(one: Operation) -> Json:
    plain = {"type": "object"} if one.answer_type == "application/json" else {"type": "string", "format": "binary"}
    content: Json = {one.answer_type: {"schema": plain}}
    if one.stream:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return content


_ERROR: Json = {
    "type": "object",
    "description": "OpenAI's error object. `param` names the field at fault.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "validation": {"type": "object", "description": "Of `invalid_training_file`: the faults, by line."},
            },
        }
    },
}
