"""Reading a JSON body: bounded by the frame, parsed and validated in one pass, refused in the one shape.

pydantic's parser limits nesting and rejects invalid UTF-8 itself; both arrive here as a Malformed.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from dayspring.core.errors import Malformed
from dayspring.web.errors import malformed

__all__ = ["OPEN_TO_ALL", "bodies", "documented", "read_body"]

B = TypeVar("B", bound=BaseModel)

OPEN_TO_ALL: dict[str, Any] = {"security": []}
"""`openapi_extra` of a route that asks for no key: whoever signs in has none yet."""

bodies: dict[str, type[BaseModel]] = {}
"""The bodies that routes read, by the name of their schema; filled as the routes are declared."""


async def read_body(request: Request, kind: type[B]) -> B:
    """The body as `kind`. Raises Malformed for anything else, TooLarge over the limit."""
    raw = await request.body()
    if not raw.strip():
        raise Malformed("the body is empty. Send a JSON object.")
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        if fault["type"] == "json_invalid":
            raise Malformed(f"it is not valid JSON ({fault['ctx']['error']}). Send a JSON object.") from None
        raise malformed(error) from None


def documented(kind: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` for a route that reads `kind` with read_body; the app's schema collects the components."""
    bodies[kind.__name__] = kind
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}},
        },
        "x-dayspring-body": kind.__name__,
    }
