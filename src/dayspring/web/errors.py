"""The one wire shape of every error, OpenAI's: `{"error": {"message", "type", "param", "code"}}`.

What holds: whatever is raised inside a route leaves as this shape; a foreign exception's text never does. A fault of
ours is logged with its trace and answered with the request's id alone.
"""

import logging
import math
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from dayspring.core.errors import DayspringError, Defect, InsufficientQuota, Malformed, OutOfRange, Unavailable
from dayspring.web.context import request_id
from dayspring.web.dialects import in_dialect
from dayspring.web.json_answer import json_answer

__all__ = ["error_body", "error_headers", "error_response", "install", "malformed", "shaped", "stopping"]

log = logging.getLogger(__name__)

_LONGEST_PATH = 200
"""Characters of a field's path that are repeated: a name in it may be the client's own, and of any length."""

_HTTP: dict[int, tuple[str, str, str]] = {
    404: ("not_found", "invalid_request_error", "There is no such route. The routes are listed at /docs."),
    405: ("method_not_allowed", "invalid_request_error", "This route has other methods; see /docs."),
}


def error_body(error: DayspringError) -> dict[str, Any]:
    """The shape, as a dict."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_headers(error: DayspringError) -> dict[str, str]:
    """Retry-After where waiting helps, in whole seconds; for a budget that is spent, OpenAI's word not to try again."""
    if isinstance(error, InsufficientQuota):
        return {"x-should-retry": "false"}
    if isinstance(error, OutOfRange):
        return {"Content-Range": f"bytes */{error.size_bytes}"}
    if error.retry_after_s is None:
        return {}
    return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}


def error_response(error: DayspringError, path: str = "") -> Response:
    """`path`: of the request, since one family of routes has a dialect of the shape."""
    headers = error_headers(error)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = in_dialect(error_body(error), error.status, path)
    return json_answer(body, status=error.status, headers=headers)


def malformed(error: ValidationError | RequestValidationError) -> Malformed:
    """The first fault pydantic found, with its path; an input value is never echoed."""
    fault = error.errors()[0]
    place = fault["loc"]
    if isinstance(error, RequestValidationError):  # FastAPI names the part of the request first
        place = place[1:]
    path = ".".join(map(str, place))[:_LONGEST_PATH]
    reason = fault["msg"]
    if fault["type"] == "union_tag_invalid":  # the one sentence of pydantic's that repeats what was sent
        reason = f"its {fault['ctx']['discriminator']} should be one of {fault['ctx']['expected_tags']}"
    return Malformed(f"{reason}. Correct it and send it again.", location=path or None)


def shaped(error: BaseException) -> DayspringError:
    """Any exception as one of ours. What is not of the tree is logged with its trace and becomes a Defect."""
    if isinstance(error, DayspringError):
        return error
    if isinstance(error, ValidationError | RequestValidationError):
        return malformed(error)
    log.error("request failed", exc_info=error)
    return Defect(request_id())


def stopping() -> Unavailable:
    """What an answer that the server's stop cuts short ends with."""
    return Unavailable("The server is stopping", "Send the request again in a moment.", retry_after_s=5)


def install(app: FastAPI) -> None:
    """Make the app answer every error in the one shape."""

    async def on_error(request: Request, error: Exception) -> Response:
        return error_response(shaped(error), request.scope["path"])

    async def on_http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code, kind, message = _HTTP.get(
            status, ("invalid_request", "invalid_request_error", "The request could not be read. See /docs.")
        )
        body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        headers = getattr(error, "headers", None)
        body = in_dialect(body, status, request.scope["path"])
        return json_answer(body, status=status, headers=headers)

    app.add_exception_handler(DayspringError, on_error)
    app.add_exception_handler(RequestValidationError, on_error)
    app.add_exception_handler(ValidationError, on_error)
    app.add_exception_handler(HTTPException, on_http)
