"""The OpenAPI document: FastAPI's, completed with the bodies that `web.body` reads and the one error shape."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from dayspring.web.body import bodies

__all__ = ["ErrorBody", "install", "results"]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every error, whatever the route."""

    error: ErrorDetail


def results(kind: type[BaseModel], *, stream: str | None = None) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers with `kind`, and as a stream of `stream`'s chunks when asked."""
    ok: dict[str, Any] = {"model": kind, "description": "The answer."}
    if stream is not None:
        ok["content"] = {"text/event-stream": {"schema": {"type": "string", "description": stream}}}
    return {200: ok}


def install(app: FastAPI) -> None:
    """Replace the app's schema by the completed one, made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    _add(components, ErrorBody)
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    for path in schema["paths"].values():
        for operation in path.values():
            body = operation.pop("x-dayspring-body", None)
            if body is not None:
                _add(components, bodies[body])
            responses = operation["responses"]
            responses.pop("422", None)
            answer = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
            responses["4XX"] = {"description": "What is wrong and what to do.", "content": answer}
            responses["5XX"] = {"description": "A fault on this side; the id is in the message.", "content": answer}
    return schema


def _add(components: dict[str, Any], kind: type[BaseModel]) -> None:
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    components.update(schema.pop("$defs", {}))
    components[kind.__name__] = schema
