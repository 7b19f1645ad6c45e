"""The one error shape as /v1/messages has it: Anthropic's clients want `type: "error"` beside it and names of theirs.

What holds: the `error` object is ours on every route, with the same four fields and the same codes; under this path
alone its `type` is Anthropic's name for the status, and the body says that it is an error. An official client of either
kind then raises the class its users catch.
"""

import re
from typing import Any

__all__ = ["MESSAGES", "in_dialect", "is_messages"]

MESSAGES = re.compile(r"/v1/messages(/|$)")

_NAMES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def is_messages(path: str) -> bool:
    return MESSAGES.search(path) is not None


def in_dialect(body: dict[str, Any], status: int, path: str) -> dict[str, Any]:
    """An error's body as the route of this path sends it."""
    if not is_messages(path):
        return body
    return {"type": "error", "error": {**body["error"], "type": _NAMES.get(status, "api_error")}}
