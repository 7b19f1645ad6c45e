"""The outermost layer: request ids, the access log, metrics, a limit on bodies, and a last net for faults.

Plain ASGI, because it wraps every request and each microsecond here is paid by all of them. What holds: a body is
never held in memory past the limit, whatever its Content-Length claims; the id sent back is the id in every log line
and, for a metered request, in the ledger.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dayspring.core.errors import TooLarge
from dayspring.core.ids import new_id
from dayspring.web.context import set_request_id
from dayspring.web.errors import error_response, shaped, stopping
from dayspring.web.sse import ClientGone

__all__ = ["Observe", "RequestFrame"]

log = logging.getLogger("dayspring.access")

_CLIENT_ID = re.compile(rb"[\w.-]{1,128}")

_LEFT = 499
"""What the log and the metrics call a request whose client left before its answer began."""

Observe = Callable[[str, str, int, float], None]
"""(method, route template, status, seconds), called once a request."""


class RequestFrame:
    """Wraps the app. `observe` feeds the metrics."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, observe: Observe) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        identifier = new_id("req")
        set_request_id(identifier)
        scope["dayspring.request_id"] = identifier
        received = 0
        limit = self.max_body_bytes

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    raise TooLarge(what="The request body", limit_bytes=limit, setting="DAYSPRING_MAX_BODY_BYTES")
            return message

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                headers.append((b"x-request-id", identifier.encode()))
                headers.append((b"x-content-type-options", b"nosniff"))
            await send(message)

        try:
            for name, value in scope["headers"]:
                if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                    raise TooLarge(what="The request body", limit_bytes=limit, setting="DAYSPRING_MAX_BODY_BYTES")
            await self.app(scope, limited, marked)
        except ClientGone:
            pass  # nobody is left to be answered
        except asyncio.CancelledError:
            # The server's stop has run out of patience: the one reason why the outermost task is cancelled, and no
            # fault to be logged. An answer that began was ended by who made it.
            if not status:
                await error_response(stopping())(scope, limited, marked)
        except Exception as error:
            if status:
                log.error("failed after the response began", exc_info=error)
                raise
            response = error_response(shaped(error))
            await response(scope, limited, marked)
        finally:
            self._observed(scope, identifier, status or _LEFT, time.perf_counter() - started)

    def _observed(self, scope: Scope, identifier: str, status: int, seconds: float) -> None:
        template = getattr(scope.get("route"), "path", "unmatched")
        self.observe(scope["method"], template, status, seconds)
        if log.isEnabledFor(logging.INFO):
            log.info(
                "request",
                extra={
                    "request_id": identifier,
                    "method": scope["method"],
                    "route": template,
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                    "client": _client_id(scope),
                },
            )


def _client_id(scope: Scope) -> str | None:
    """The caller's own `X-Client-Request-Id`, when it is harmless to log."""
    for name, value in scope["headers"]:
        if name == b"x-client-request-id" and _CLIENT_ID.fullmatch(value):
            return str(value, "ascii")
    return None
