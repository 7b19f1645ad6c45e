"""Two lanes to our own engines: live requests go at once, batch work waits its turn.

What holds: while a live request is under way, one batch call at a time is begun, so that a live answer shares the
machine with at most one more than it would alone and batches still get on; otherwise as many run as the engine has
slots, less one that stays free for whoever comes. The first to wait is the first to go.
What it does not do: hold up calls to an upstream, which computes elsewhere, or stop a batch call that has begun.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from dayspring.dispatch.values import Lane

__all__ = ["Lanes"]


class Lanes:
    """One for a server. `slots`: how many requests an engine runs at the same time."""

    def __init__(self, slots: int) -> None:
        self._most = max(1, slots - 1)
        self._live = 0
        self._batch = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, lane: Lane) -> AsyncIterator[None]:
        """Holds the lane while the body runs."""
        if lane == "live":
            self._live += 1
            try:
                yield
            finally:
                self._live -= 1
                self._wake()
            return
        await self._take()
        try:
            yield
        finally:
            self._batch -= 1
            self._wake()

    def _free(self) -> bool:
        return self._batch < (1 if self._live else self._most)

    async def _take(self) -> None:
        if self._free() and not self._waiting:
            self._batch += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # the turn came at the same moment: the next one has it
                self._batch -= 1
            else:
                with suppress(ValueError):  # whoever left meanwhile has passed over it
                    self._waiting.remove(place)
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._free():
            place = self._waiting.popleft()
            if not place.done():
                self._batch += 1
                place.set_result(None)
