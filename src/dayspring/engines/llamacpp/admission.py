"""Who may start: at most as many requests as slots, whose cells of key-value memory never add up to more than the pool.

First come, first served: nobody overtakes a large request, so each is served in time. A request holds what it could
need at most, so no stream ever fails half way for want of memory.
"""

import asyncio
from collections import deque

from dayspring.engines.llamacpp.slots import Place, Slots, Wish

__all__ = ["Admission", "Ticket"]


class Ticket:
    """One request's place. Held until `leave`."""

    def __init__(self, cells: int, place: Place) -> None:
        self.cells = cells
        self.place = place


class Admission:
    def __init__(self, slots: Slots, cells: int) -> None:
        self._slots = slots
        self._cells = cells
        self._waiting: deque[tuple[int, Wish, asyncio.Future[Ticket]]] = deque()

    async def enter(self, cells: int, wish: Wish) -> Ticket:
        """Waits for a slot and so many cells, at most the whole pool. Cancelling the wait gives up the place."""
        place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiting.append((cells, wish, place))
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

    def leave(self, ticket: Ticket) -> None:
        self._slots.give(ticket.place.slot)
        self._cells += ticket.cells
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            cells, wish, place = self._waiting[0]
            if place.done():
                self._waiting.popleft()
                continue
            if not self._slots.free or cells > self._cells:
                return
            self._waiting.popleft()
            self._cells -= cells
            place.set_result(Ticket(cells, self._slots.take(wish)))
