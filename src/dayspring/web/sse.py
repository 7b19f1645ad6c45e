"""Answers that take time: server-sent events, and work that stops when the client goes away.

Framing as the HTML standard has it (html.spec.whatwg.org, section 9.2): `data: ` one line, a blank line, and OpenAI's
closing `data: [DONE]`. A comment line every so often keeps proxies from closing a quiet stream.
What holds: when the client leaves, the producer is closed before the response ends, so what it was doing stops.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dayspring.web.errors import error_body, shaped

__all__ = ["ClientGone", "EventStream", "unless_client_leaves"]

T = TypeVar("T")

_DONE = b"data: [DONE]\n\n"
_QUIET = b": still working\n\n"
_QUIET_S = 15.0


class ClientGone(Exception):  # noqa: N818 - not an error: nobody is left to be told
    """The client closed the connection before its answer."""


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; cancels it and raises ClientGone when the client disconnects first."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


class EventStream(Response):
    """A response that sends each payload of `producer` as one event.

    The first payload is awaited before the status line is sent, so an error until then has its own status. A later one
    is sent as an event of the one error shape, and the stream ends without `[DONE]`, as OpenAI's does.
    """

    def __init__(self, producer: AsyncGenerator[Any, None]) -> None:
        super().__init__(media_type="text/event-stream")
        self.producer = producer
        self.quiet = True
        """Whether nothing was sent since the last look of the heartbeat."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.producer):
            work = asyncio.ensure_future(self._send(send))
            watch = asyncio.ensure_future(_disconnected(receive))
            try:
                await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
            finally:
                watch.cancel()
                if not work.done():
                    work.cancel()
                with suppress(asyncio.CancelledError):
                    await work

    async def _send(self, send: Send) -> None:
        first = await anext(self.producer, None)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream; charset=utf-8"),
                    (b"cache-control", b"no-cache"),
                    (b"x-accel-buffering", b"no"),
                ],
            }
        )
        heartbeat = asyncio.ensure_future(self._keep_alive(send))
        ending = _DONE
        try:
            if first is not None:
                await self._event(send, first)
            async for payload in self.producer:
                await self._event(send, payload)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - shaped() logs what is not of the tree
            ending = b"data: " + orjson.dumps(error_body(shaped(error))) + b"\n\n"
        finally:
            heartbeat.cancel()
        await send({"type": "http.response.body", "body": ending, "more_body": False})

    async def _event(self, send: Send, payload: Any) -> None:
        self.quiet = False
        await send(
            {"type": "http.response.body", "body": b"data: " + orjson.dumps(payload) + b"\n\n", "more_body": True}
        )

    async def _keep_alive(self, send: Send) -> None:
        while True:
            self.quiet = True
            await asyncio.sleep(_QUIET_S)
            if self.quiet:
                await send({"type": "http.response.body", "body": _QUIET, "more_body": True})
