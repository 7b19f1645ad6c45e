"""The OpenAPI document: FastAPI's, completed with what routes read and write by themselves and the one error shape.

A route that parses its own body names its schema with `web.body.documented`; one that writes its own answer names it
with `results`, a pydantic model or a msgspec struct. Both are collected here when the document is made.
"""

from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from dayspring.web.body import bodies

__all__ = ["ErrorBody", "install", "results"]

_REF = "#/components/schemas/"
_answers: dict[str, Any] = {}
"""What `results` has named: the schema's name and its type."""


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every error, whatever the route. `type` is there on /v1/messages alone, where it is `error`."""

    error: ErrorDetail
    type: str | None = None


def results(kind: Any, *, stream: Any = None, csv: bool = False) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that writes a `kind` itself: a pydantic model, or a msgspec struct, perhaps a generic one.

    `stream`: what each event of the answer is, where it can be asked for as server-sent events. `csv`: it can be had as
    a table.
    """
    content: dict[str, Any] = {"application/json": {"schema": _reference(kind)}}
    if stream is not None:
        content["text/event-stream"] = {"schema": _reference(stream)}
    if csv:
        content["text/csv"] = {"schema": {"type": "string"}}
    return {200: {"description": "The answer.", "content": content}}


def install(app: FastAPI) -> None:
    """Replace the app's schema by the completed one, made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema


def _reference(kind: Any) -> dict[str, str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        name = kind.__name__
    else:
        (made,), _ = msgspec.json.schema_components((kind,), ref_template="{name}")
        name = made["$ref"]
    if _answers.setdefault(name, kind) != kind:
        raise ValueError(f"two answers are named {name!r}")
    return {"$ref": _REF + name}


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    parts = schema.setdefault("components", {})
    parts["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "A key made by `dayspring keys create`."}
    }
    components = parts.setdefault("schemas", {})
    for kind in (ErrorBody, *_answers.values()):
        _add(components, kind)
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    answer = {"application/json": {"schema": _reference(ErrorBody)}}
    for place, path in schema["paths"].items():
        for operation in path.values():
            body = operation.pop("x-dayspring-body", None)
            if body is not None:
                _add(components, bodies[body])
            if place.startswith("/v1/"):
                operation.setdefault("security", [{"key": []}])
            responses = operation["responses"]
            responses.pop("422", None)
            responses["4XX"] = {"description": "What is wrong and what to do.", "content": answer}
            responses["5XX"] = {"description": "A fault on this side; the id is in the message.", "content": answer}
    return schema


def _add(components: dict[str, Any], kind: Any) -> None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        made = kind.model_json_schema(ref_template=_REF + "{model}")
        found = made.pop("$defs", {}) | {kind.__name__: made}
    else:
        _, found = msgspec.json.schema_components((kind,), ref_template=_REF + "{name}")
    for name, part in found.items():
        if components.setdefault(name, part) != part:
            raise ValueError(f"two schemas are named {name!r}")
