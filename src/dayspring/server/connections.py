"""uvicorn's HTTP/1.1 connection, bounded: in the size of a head, in the time a client may take, in their number.

uvicorn over httptools waits for ever for a head that comes a byte at a time and reads one of any length. What holds
here: a head is over in `client_timeout_s` and at most MAX_HEAD_BYTES long; a body that is waited for brings
BODY_BYTES in that time; a client that takes nothing of its answer for STALLED_S is cut off; one connection over the
limit is told to come again. One look at all connections a second does it, so a request pays for comparing numbers only.
What it does not do: bodies' size (web/middleware.py), or the time of the work itself (dispatch).
"""

import asyncio
import time
from typing import Any

import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from dayspring.core.errors import ClientTooSlow, DayspringError, HeadTooLarge, Malformed, Unavailable
from dayspring.web.edge.answers import security_headers
from dayspring.web.errors import error_body

__all__ = ["BODY_BYTES", "MAX_HEADERS", "MAX_HEAD_BYTES", "MAX_URL_BYTES", "BoundedProtocol", "Patrol"]

MAX_URL_BYTES = 8 << 10
MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 << 10
BODY_BYTES = 4 << 10
"""What must come of a body in each `client_timeout_s` in which it is waited for."""
STALLED_S = 90.0
"""Longer than `web.sse` waits, which ends a stream with an account of it."""
LEFTOVER_BYTES = 64 << 20
"""What is still read of a body that was answered already, so that the client can see the answer."""
LINGER_BYTES = 1 << 20
LINGER_S = 2.0
"""What is read, and for how long, after a refusal."""
_TOLD = 256
"""How many connections over the limit are told so at the same time."""
_LOOK_S = 1.0


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `patrol` is set on the class that `Patrol.protocol` makes."""

    patrol: "Patrol"

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_done = False
        self._named = False
        """Whether a Host header came."""
        self._idle = False
        """Between two requests, when nothing of the next has come."""
        self._since = 0.0
        """When the part under way began to be waited for."""
        self._body_bytes = 0
        self._loose_bytes = 0
        """Received since the last piece of body: trailers and chunk extensions have no other limit."""
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = time.monotonic()
        over = len(self.connections) - self.patrol.max_connections
        if over > _TOLD:
            self.transport.abort()
        elif over > 0:
            self._refuse(Unavailable("The server has all the connections it takes", "Try again.", retry_after_s=1))

    def data_received(self, data: bytes) -> None:
        self._loose_bytes += len(data)
        if self._refused:
            if self._loose_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        if self._idle:
            self._idle, self._head_done, self._since = False, False, time.monotonic()
        super().data_received(data)
        if self._loose_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_done = self._named = False

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_URL_BYTES:
            self._refuse(HeadTooLarge(MAX_URL_BYTES), 414)

    def on_header(self, name: bytes, value: bytes) -> None:
        """uvicorn's own, as it is called ten times a request: not by super()."""
        if self._head_done:
            return  # a trailer: it came after the head was judged, so it is none of it
        name = name.lower()
        if name == b"host":
            self._named = True
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        # What was received may hold a body as well, so a head is measured only where it could be over the limit.
        long = self._loose_bytes > MAX_HEAD_BYTES and sum(len(n) + len(v) for n, v in self.headers) > MAX_HEAD_BYTES
        self._head_done, self._loose_bytes, self._body_bytes = True, 0, 0
        self._since = time.monotonic()
        if long or len(self.headers) > MAX_HEADERS:
            self._refuse(HeadTooLarge(MAX_HEAD_BYTES))
        elif not self._named and self.parser.get_http_version() == "1.1":
            self._refuse(Malformed("it has no Host header. HTTP/1.1 asks for one."))
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._loose_bytes = 0
        self._body_bytes += len(body)
        if not self._refused:
            super().on_body(body)
            if self.cycle.response_complete and self._body_bytes > LEFTOVER_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        self._loose_bytes = 0
        if not self._refused:
            super().on_message_complete()
            self.cycle.more_body = False
            self._idle = self.cycle.response_complete

    def on_response_complete(self) -> None:
        self._idle = not self.cycle.more_body and not self.pipeline
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Malformed("it is not HTTP/1.1. Send it with an HTTP client."))

    def _unsupported_upgrade_warning(self) -> None:
        """The request is answered as plain HTTP; a line in the log for each would be a stranger's to write."""

    def look(self, now: float) -> None:
        """Ends the connection if its client has taken too long."""
        if self._stalled(now) or (self._refused and now - self._since > LINGER_S):
            self.transport.abort()
            return
        if self._refused or self._idle or self.transport.is_closing():
            return
        if now - self._since < self.patrol.client_timeout_s:
            return
        if not self._head_done:
            self._refuse(ClientTooSlow("The head of the request", self.patrol.client_timeout_s))
        elif self.cycle is not None and self.cycle.more_body:
            if self.cycle.response_complete:
                self.transport.close()
            elif not self.flow.read_paused and self._body_bytes < BODY_BYTES:
                self._refuse(ClientTooSlow("The body of the request", self.patrol.client_timeout_s))
            else:
                self._since, self._body_bytes = now, 0

    def _stalled(self, now: float) -> bool:
        """Whether the client has taken nothing of what waits for it for too long."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if not unsent_bytes or unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self._unsent_since = unsent_bytes, now
            return False
        return now - self._unsent_since > STALLED_S

    def _refuse(self, error: DayspringError, status: int = 0) -> None:
        """Answers, unless an answer is under way, and closes. The app, if it runs, sees its client gone.

        The connection stays open for reading a little: one that is closed with something unread in it is reset, and
        the answer is lost on its way.
        """
        if self._refused or self.transport.is_closing():
            return
        self._refused, self._since, self._loose_bytes = True, time.monotonic(), 0
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if answering and self.cycle.response_started:
            self.transport.close()
            return
        self.transport.write(_answer(error, status or error.status, tls=self.scheme == "https"))
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


class Patrol:
    """Looks at every connection once a second."""

    def __init__(self, *, max_connections: int, client_timeout_s: float) -> None:
        self.max_connections = max_connections
        self.client_timeout_s = client_timeout_s

    def protocol(self) -> type[BoundedProtocol]:
        """The class for uvicorn's configuration."""
        return type("Connection", (BoundedProtocol,), {"patrol": self})

    async def run(self, state: ServerState) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(min(_LOOK_S, self.client_timeout_s / 4))
            now = time.monotonic()
            for connection in tuple(state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.look(now)


def _answer(error: DayspringError, status: int, *, tls: bool) -> bytes:
    body = orjson.dumps(error_body(error))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *([(b"retry-after", b"1")] if error.retry_after_s else []),
    ]
    lines = (
        name + b": " + value + b"\r\n" for name, value in (*headers, *security_headers(headers, tls=tls, private=True))
    )
    return STATUS_LINE[status] + b"".join(lines) + b"\r\n" + body
