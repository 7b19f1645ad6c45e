"""The server's end of one call in a worker: the events that have come, in order, until it ends.

What holds: at most about `_HIGH` events wait here, whatever the client's speed: above it the worker is told to hold
the call back, below `_LOW` to send on. What the worker then computes ahead stays in its own memory, bounded by the
answer's length. The call's time on the device ends when the worker says that the work has stopped.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from dayspring.compute.meter import DeviceMeter, Share
from dayspring.contracts.events import Event
from dayspring.core.errors import DayspringError

__all__ = ["Call"]

_HIGH = 2048
_LOW = 256


class Call:
    """An async iterator of events; raises the error the call ended with."""

    def __init__(self, meter: DeviceMeter, pace: Callable[[bool], None]) -> None:
        self._meter = meter
        self._pace = pace
        self._share: Share | None = None
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._error: DayspringError | None = None
        self._held = False
        self.over = asyncio.Event()
        """Set when the worker said that the work has stopped, or is gone."""

    def began(self) -> None:
        if self._share is None and not self.over.is_set():
            self._share = self._meter.begin()

    def event(self, event: Event) -> None:
        self._events.append(event)
        if not self._held and len(self._events) >= _HIGH:
            self._held = True
            self._pace(False)
        self._wake()

    def ended(self, error: DayspringError | None = None) -> None:
        """No more comes. The first end counts."""
        if self.over.is_set():
            return
        self.over.set()
        self._error = error
        self.stop_metering()
        self._wake()

    def stop_metering(self) -> None:
        if self._share is not None:
            self._meter.end(self._share)

    @property
    def busy_ns(self) -> int:
        """The call's fair share of the device's time until now, or in all once it is over."""
        return 0 if self._share is None else self._meter.used_ns(self._share)

    def __aiter__(self) -> "Call":
        return self

    async def __anext__(self) -> Event:
        events = self._events
        while not events:
            if self.over.is_set():
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._held and len(events) <= _LOW:
            self._held = False
            self._pace(True)
        return events.popleft()

    def _wake(self) -> None:
        if (waiter := self._waiter) is not None and not waiter.done():
            waiter.set_result(None)
