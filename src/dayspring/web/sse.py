"""Answers that take time: server-sent events, and work that stops when the client goes away.

Framing as the HTML standard has it (html.spec.whatwg.org, section 9.2): `data: ` one line, a blank line, and OpenAI's
closing `data: [DONE]`. A comment line every so often keeps proxies from closing a quiet stream.
What holds: when the client leaves, or takes nothing for a minute, the producer is closed before the response ends, so
what it was doing stops.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dayspring.core.errors import DayspringError
from dayspring.web.errors import error_body, shaped, stopping

__all__ = ["ClientGone", "EventStream", "Framing", "NamedFraming", "unless_client_leaves"]

log = logging.getLogger(__name__)

T = TypeVar("T")

QUIET_S = 15.0
STALLS = 4
"""How many times QUIET_S one piece may wait for the client to take it."""


class Framing:
    """How payloads are written: this one as OpenAI's chats are."""

    done = b"data: [DONE]\n\n"
    quiet = b": still working\n\n"

    def event(self, payload: Any) -> bytes:
        return b"data: " + orjson.dumps(payload) + b"\n\n"

    def fault(self, error: DayspringError) -> bytes:
        """The last event of a stream that cannot go on."""
        return self.event(error_body(error))


class NamedFraming(Framing):
    """An event's name is its `type`, and nothing follows the last: OpenAI's responses, Anthropic's messages."""

    done = b""

    def event(self, payload: Any) -> bytes:
        name: str = payload["type"]
        return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"

    def fault(self, error: DayspringError) -> bytes:
        return self.event({"type": "error", **error_body(error)})


class ClientGone(Exception):  # noqa: N818 - not an error: nobody is left to be told
    """The client closed the connection before its answer."""


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stop(work: "asyncio.Task[Any]") -> None:
    """Cancels what is not done, and waits until it is, even if the waiting task is cancelled meanwhile."""
    if work.done():
        return
    cancelled = False
    work.cancel()  # once: a second would cut short what it does to end well
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:
            cancelled = True
    if not work.cancelled() and (fault := work.exception()) is not None:
        log.error("the work of a request failed while it was stopped", exc_info=fault)
    if cancelled:
        raise asyncio.CancelledError


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
        await _stop(task)


class EventStream(Response):
    """A response that sends each payload of `producer` as one event.

    The first payload is awaited before the status line is sent, so an error until then has its own status. A later one
    is sent as an event of the one error shape, and the stream ends without `[DONE]`, as OpenAI's does.
    """

    def __init__(self, producer: AsyncGenerator[Any, None], framing: Framing | None = None) -> None:
        super().__init__(media_type="text/event-stream")
        self.producer = producer
        self.framing = framing or Framing()
        self._begun = False
        self._sending = False
        self._sent = 0
        """Pieces that the client's side took."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.producer):
            work = asyncio.ensure_future(self._send(send))
            watch = asyncio.ensure_future(_disconnected(receive))
            heartbeat = asyncio.ensure_future(self._until_stalled(send))
            try:
                await asyncio.wait((work, watch, heartbeat), return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise ClientGone
                work.result()
            except asyncio.CancelledError:
                await _stop(work)
                if self._begun:  # the client has the beginning: it is told why there is no end
                    self._begun = False
                    await self._piece(send, self.framing.fault(stopping()), more=False)
                raise
            finally:
                watch.cancel()
                heartbeat.cancel()
                await _stop(work)

    async def _send(self, send: Send) -> None:
        first = await anext(self.producer, None)
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._begun = True
        ending = self.framing.done
        try:
            if first is not None:
                await self._piece(send, self.framing.event(first))
            async for payload in self.producer:
                await self._piece(send, self.framing.event(payload))
        except Exception as error:  # noqa: BLE001 - shaped() logs what is not of the tree
            ending = self.framing.fault(shaped(error))
        self._begun = False
        await self._piece(send, ending, more=False)

    async def _piece(self, send: Send, body: bytes, *, more: bool = True) -> None:
        self._sending = True
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self._sending = False
        self._sent += 1

    async def _until_stalled(self, send: Send) -> None:
        """Keeps a quiet stream awake. Returns when the client has taken nothing for too long."""
        before, stalls = -1, 0
        while stalls < STALLS:
            await asyncio.sleep(QUIET_S)
            stalls = stalls + 1 if self._sending and self._sent == before else 0
            if self._begun and not self._sending and self._sent == before:
                try:
                    async with asyncio.timeout(QUIET_S * STALLS):
                        await send({"type": "http.response.body", "body": self.framing.quiet, "more_body": True})
                except TimeoutError:
                    return
            before = self._sent
