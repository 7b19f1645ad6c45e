"""The outermost layer: who calls and how, request ids, the access log, metrics, limits on bodies, what every answer
says to a browser, and a last net for faults.

Plain ASGI, because it wraps every request and each microsecond here is paid by all of them. What holds: a body is
never held in memory past the limit, whatever its Content-Length claims; the id sent back is the id in every log line
and, for a metered request, in the ledger; `scope["client"]` is the client, not its proxy.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dayspring.core.errors import TooLarge
from dayspring.core.ids import new_id
from dayspring.web.context import set_client_address, set_request_id
from dayspring.web.edge.answers import security_headers
from dayspring.web.edge.entry import Entry, Seen
from dayspring.web.errors import error_response, shaped, stopping
from dayspring.web.rates import rate_headers
from dayspring.web.sse import ClientGone

__all__ = ["BodyLimit", "Observe", "RequestFrame"]

log = logging.getLogger("dayspring.access")

_CLIENT_ID = re.compile(rb"[\w.-]{1,128}")

_LEFT = 499
"""What the log and the metrics call a request whose client left before its answer began."""
_UNSEEN = Seen(0, b"", "", private=True, tls=False)
"""Of a request that was refused at the first look."""

Observe = Callable[[str, str, int, float], None]
"""(method, route template, status, seconds), called once a request."""


class BodyLimit(msgspec.Struct, frozen=True):
    """How much the routes of one path read, where that is not `max_body_bytes`, and which setting says so."""

    max_bytes: int
    setting: str


class RequestFrame:
    """Wraps the app. `observe` feeds the metrics. `body_limits` by the route's path, with `*` for an id."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        entry: Entry,
        max_body_bytes: int,
        observe: Observe,
        body_limits: Mapping[str, BodyLimit] | None = None,
    ) -> None:
        self.app = app
        self.entry = entry
        self.default = BodyLimit(max_body_bytes, "DAYSPRING_MAX_BODY_BYTES")
        self.body_limits = tuple((body_limits or {}).items())
        self.observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        identifier = new_id("req")
        set_request_id(identifier)
        scope["dayspring.request_id"] = identifier
        answer = _Answer(self, scope, receive, send, identifier)
        try:
            await self._served(scope, answer)
        finally:
            self._observed(scope, identifier, answer.status or _LEFT, time.perf_counter() - started)

    async def _served(self, scope: Scope, answer: "_Answer") -> None:
        try:
            answer.seen = seen = self.entry.admit(scope)
            client = scope["client"]
            set_client_address(client[0] if client else "")
            if seen.length_bytes > self.default.max_bytes:
                answer.check(seen.length_bytes)
            if seen.origin and self.entry.cors and await self._preflight(scope, answer):
                return
            await self.app(scope, answer.receive, answer.send)
        except (ClientGone, ClientDisconnect):
            pass  # nobody is left to be answered
        except asyncio.CancelledError:
            # The server's stop has run out of patience: the one reason why the outermost task is cancelled, and no
            # fault to be logged. An answer that began was ended by who made it.
            if not answer.status:
                await error_response(stopping(), scope["path"])(scope, answer.receive, answer.send)
        except Exception as error:
            if answer.status:
                log.error("failed after the response began", exc_info=error)
                raise
            await error_response(shaped(error), scope["path"])(scope, answer.receive, answer.send)

    async def _preflight(self, scope: Scope, answer: "_Answer") -> bool:
        """Answers a browser's question whether a page may call; False when it is none, or not one of our pages."""
        asked = dict(scope["headers"]) if scope["method"] == "OPTIONS" else {}
        if b"access-control-request-method" not in asked:
            return False
        headers = self.entry.cors.preflight(answer.seen.origin, asked.get(b"access-control-request-headers", b""))
        if headers is None:
            return False
        await answer.send({"type": "http.response.start", "status": 204, "headers": headers})
        await answer.send({"type": "http.response.body", "body": b""})
        return True

    def limit_of(self, path: str) -> BodyLimit:
        """What a route reads at most."""
        for pattern, limit in self.body_limits:
            if fnmatchcase(path, pattern):
                return limit
        return self.default

    def _observed(self, scope: Scope, identifier: str, status: int, seconds: float) -> None:
        template = getattr(scope.get("route"), "path", "unmatched")
        self.observe(scope["method"], template, status, seconds)
        if log.isEnabledFor(logging.INFO):
            client = scope["client"]
            log.info(
                "request",
                extra={
                    "request_id": identifier,
                    "method": scope["method"],
                    "route": template,
                    "status": status,
                    "ms": round(seconds * 1000, 2),
                    "address": client[0] if client else None,
                    "client": _client_id(scope),
                },
            )


class _Answer:
    """What passes between the app and the server while one request is served."""

    __slots__ = ("_frame", "_identifier", "_receive", "_received", "_scope", "_send", "seen", "status")

    def __init__(self, frame: RequestFrame, scope: Scope, receive: Receive, send: Send, identifier: str) -> None:
        self._frame = frame
        self._scope = scope
        self._receive = receive
        self._send = send
        self._identifier = identifier
        self._received = 0
        self.seen = _UNSEEN
        self.status = 0

    def check(self, size_bytes: int) -> None:
        """Raises TooLarge for a body of this size on this route."""
        limit = self._frame.limit_of(self.seen.path)
        if size_bytes > limit.max_bytes:
            raise TooLarge(what="The request body", limit_bytes=limit.max_bytes, setting=limit.setting)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._frame.default.max_bytes:
                self.check(self._received)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            seen = self.seen
            headers = message.setdefault("headers", [])
            more = security_headers(headers, tls=seen.tls, private=seen.private)
            headers.append((b"x-request-id", self._identifier.encode()))
            headers.extend(more)
            headers.extend(rate_headers(self._scope))
            if seen.origin and self._frame.entry.cors:
                headers.extend(self._frame.entry.cors.headers(seen.origin))
        await self._send(message)


def _client_id(scope: Scope) -> str | None:
    """The caller's own `X-Client-Request-Id`, when it is harmless to log."""
    for name, value in scope["headers"]:
        if name == b"x-client-request-id" and _CLIENT_ID.fullmatch(value):
            return str(value, "ascii")
    return None
