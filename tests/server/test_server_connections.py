"""What a client may not do to a connection: each limit with real bytes, against the server's own protocol."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from wire import exchange, read_reply

from dayspring.core.settings import Settings
from dayspring.server.connections import LEFTOVER_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, MAX_URL_BYTES, Patrol
from dayspring.web.edge.entry import Entry
from dayspring.web.middleware import RequestFrame

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


class App:
    """Reads the body, answers its length. `seen` are the scopes."""

    def __init__(self) -> None:
        self.seen: list[Scope] = []
        self.gone = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        size = 0
        if scope["path"] == "/early":
            await self._answer(send, b"early")
            return
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            size += len(message["body"])
            if not message["more_body"]:
                break
        if scope["path"] == "/pour":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            cut = asyncio.ensure_future(receive())
            while not cut.done():
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
                await asyncio.sleep(0)
            self.gone.set()
            return
        await self._answer(send, str(size).encode())

    async def _answer(self, send: Send, body: bytes) -> None:
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def listening(app: ASGIApp, *, timeout_s: float = 5, connections: int = 100) -> AsyncIterator[int]:
    """The app behind the server's protocol and frame; its port."""
    frame = RequestFrame(app, entry=Entry(Settings()), max_body_bytes=1 << 20, observe=lambda *_: None)
    patrol = Patrol(max_connections=connections, client_timeout_s=timeout_s)
    config = uvicorn.Config(frame, loop="none", http=patrol.protocol(), ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    serving = asyncio.ensure_future(server._serve([listener]))
    watching = asyncio.ensure_future(patrol.run(server.server_state))
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.001)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        await serving


async def test_a_plain_request_is_answered_and_the_connection_kept() -> None:
    async with listening(App()) as port:
        reply, closed = await exchange(port, GET + b"Content-Length: 3\r\n\r\n", b"abc")
        assert (reply.status, reply.body, closed) == (200, b"3", False)


async def test_a_head_that_comes_a_byte_at_a_time_is_ended() -> None:
    async with listening(App(), timeout_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        drip = asyncio.ensure_future(_drip(writer, GET + b"X-A: " + b"a" * 10_000))
        reply = await read_reply(reader)
        assert (reply.status, reply.code) == (408, "client_too_slow")
        assert await reader.read() == b""
        drip.cancel()
        writer.close()


async def test_the_next_head_on_a_kept_connection_has_the_same_limit() -> None:
    async with listening(App(), timeout_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET + b"\r\n")
        assert (await read_reply(reader)).status == 200
        drip = asyncio.ensure_future(_drip(writer, GET + b"X-A: " + b"a" * 10_000))
        assert (await read_reply(reader)).status == 408
        drip.cancel()
        writer.close()


async def test_a_connection_that_says_nothing_is_ended_and_a_kept_one_is_not() -> None:
    async with listening(App(), timeout_s=0.1) as port:
        silent, silent_writer = await asyncio.open_connection("127.0.0.1", port)
        kept, kept_writer = await asyncio.open_connection("127.0.0.1", port)
        kept_writer.write(GET + b"\r\n")
        assert (await read_reply(kept)).status == 200
        assert (await read_reply(silent)).status == 408
        kept_writer.write(GET + b"\r\n")
        assert (await read_reply(kept)).status == 200
        for writer in (silent_writer, kept_writer):
            writer.close()


async def test_a_body_that_drips_is_ended_and_the_app_sees_its_client_gone() -> None:
    app = App()
    async with listening(app, timeout_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        drip = asyncio.ensure_future(_drip(writer, b"a" * 100_000))
        reply = await read_reply(reader)
        assert (reply.status, reply.code) == (408, "client_too_slow")
        await app.gone.wait()
        drip.cancel()
        writer.close()


async def test_a_slow_body_that_makes_progress_is_read_to_its_end() -> None:
    async with listening(App(), timeout_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 81920\r\n\r\n")
        for _ in range(10):
            writer.write(bytes(8192))
            await asyncio.sleep(0.06)  # longer than the limit in all, never without progress
        assert (await read_reply(reader)).body == b"81920"
        writer.close()


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.005)


HEADS = {
    "many": (GET + b"".join(b"X-%d: a\r\n" % number for number in range(MAX_HEADERS + 1)) + b"\r\n", 431),
    "long": (GET + b"X-A: " + b"a" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n", 431),
    "endless": (GET + b"X-A: " + b"a" * (4 * MAX_HEAD_BYTES), 431),
    "endless name": (GET + b"a" * (4 * MAX_HEAD_BYTES), 431),
    "address": (b"GET /" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "query": (b"GET /?" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    "endless address": (b"GET /" + b"a" * (4 * MAX_URL_BYTES), 414),
}


@pytest.mark.parametrize("which", HEADS)
async def test_a_head_over_the_limit_is_refused_in_the_one_shape(which: str) -> None:
    head, status = HEADS[which]
    app = App()
    async with listening(app) as port:
        reply, closed = await exchange(port, head)
        assert (reply.status, reply.code, closed) == (status, "head_too_large", True)
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert not app.seen


MALFORMED = [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A : b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("sent", MALFORMED)
async def test_what_is_not_http_is_answered_once_in_the_one_shape_and_closed(sent: bytes) -> None:
    async with listening(App()) as port:
        reply, closed = await exchange(port, sent)
        assert (reply.status, reply.code, closed) == (400, "malformed", True)


async def test_two_host_headers_are_refused() -> None:
    async with listening(App()) as port:
        reply, _ = await exchange(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: 127.0.0.1\r\n\r\n")
        assert (reply.status, reply.code) == (400, "malformed")


async def test_a_trailer_is_no_header() -> None:
    """What comes after the head was judged cannot add a key, an address or a host to it."""
    app = App()
    async with listening(app) as port:
        head = b"POST /work HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply, _ = await exchange(
            port, head + b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
        )
        assert reply.body == b"1"
        assert {name for name, _ in app.seen[0]["headers"]} == {b"host", b"transfer-encoding"}


async def test_endless_trailers_are_refused() -> None:
    async with listening(App()) as port:
        head = b"POST /work HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: "
        reply, closed = await exchange(port, head, *[b"a" * (1 << 16)] * 16)
        assert (reply.status, closed) == (431, True)


async def test_one_connection_over_the_limit_is_told_to_come_again() -> None:
    async with listening(App(), connections=2) as port:
        first = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in first:
            writer.write(GET + b"\r\n")
            assert (await read_reply(reader)).status == 200
        reply, closed = await exchange(port)
        assert (reply.status, reply.code, reply.headers["retry-after"], closed) == (503, "unavailable", "1", True)
        first[0][1].close()
        await first[0][1].wait_closed()
        reply, _ = await exchange(port, GET + b"\r\n")
        assert reply.status == 200
        first[1][1].close()


async def test_a_client_that_takes_nothing_is_cut_off_and_not_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dayspring.server.connections.STALLED_S", 0.3)
    app = App()
    async with listening(app, timeout_s=0.2) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(b"GET /pour HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(20):
            await app.gone.wait()
        assert time.monotonic() - began > 0.3
        writer.transport.abort()


async def test_an_answer_before_the_end_of_a_body_reaches_a_client_that_still_sends() -> None:
    async with listening(App()) as port:
        head = b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (1 << 20)
        reply, closed = await exchange(port, head, *[bytes(1 << 16)] * 16)
        assert (reply.body, closed) == (b"early", False)
        assert LEFTOVER_BYTES > 1 << 20


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with listening(App()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sizes = [5, 0, 7]
        head = b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        writer.write(b"".join(head % size + bytes(size) for size in sizes))
        assert [int((await read_reply(reader)).body) for _ in sizes] == sizes
        writer.close()
