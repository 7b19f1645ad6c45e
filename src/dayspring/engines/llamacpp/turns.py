"""Who may enter the library's server, so that nobody is overtaken for ever.

The server fills each batch from its slots in their order and passes over what does not fit. Under steady load the first
slots are refilled at once, and an input in a later one may wait as long as others come. Here a newcomer waits at the
door as soon as someone inside was overtaken as often as there are slots: then the batch has room for them.

What holds: first come, first served at the door; inside, each is overtaken by a bounded number of others, twice the
slots at most. What it does not do: measure how large an input is.
"""

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._inside: dict[int, int] = {}
        """Each that is inside, in the order they came, and how many that came later have left."""
        self._waiting: deque[asyncio.Future[int]] = deque()
        self._next = 0

    async def enter(self) -> int:
        """Waits for a place inside; what `leave` takes. Cancelling the wait gives up the place."""
        place: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._admit()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(place.result())
            else:
                place.cancel()
                self._admit()
            raise

    def leave(self, number: int) -> None:
        del self._inside[number]
        for other in self._inside:
            if other < number:
                self._inside[other] += 1
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            place = self._waiting[0]
            if place.done():
                self._waiting.popleft()
                continue
            if len(self._inside) >= self._slots or max(self._inside.values(), default=0) >= self._slots:
                return
            self._waiting.popleft()
            self._inside[self._next] = 0
            place.set_result(self._next)
            self._next += 1
