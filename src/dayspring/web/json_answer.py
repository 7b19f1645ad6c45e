"""A JSON answer that a route writes itself: what the service made, once, as it is. `openapi.results` documents it."""

from collections.abc import Mapping

import msgspec
import orjson
from starlette.responses import Response

__all__ = ["json_answer"]


def json_answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`content`: plain values, or a msgspec struct."""
    body = msgspec.json.encode(content) if isinstance(content, msgspec.Struct) else orjson.dumps(content)
    return Response(body, status, headers, "application/json")
