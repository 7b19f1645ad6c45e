"""The line before the library: first come, first served. And who may start of those whose answer fills memory.

What holds: at most as many requests as slots are inside, and their cells of key-value memory never add up to more than
the pool. Nobody overtakes a large request, so each is served in time. A request holds what it could need at most, so no
stream ever fails half way for want of memory.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

from dayspring.engines.llamacpp.slots import Place, Slots, Wish

__all__ = ["Admission", "Line", "Ticket"]

W = TypeVar("W")
P = TypeVar("P")


class Line(ABC, Generic[W, P]):
    """Who waits for a place, first come, first served. What is wanted (W) and what a place is (P) is the subclass's."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[W, asyncio.Future[P]]] = deque()

    @abstractmethod
    def _take(self, wanted: W) -> P | None:
        """A place, held until `leave`; None as long as there is none."""

    @abstractmethod
    def leave(self, place: P) -> None:
        """Gives the place back, and lets in who may come now."""

    async def _wait(self, wanted: W) -> P:
        """Cancelling the wait gives up the place."""
        given: asyncio.Future[P] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, given))
        self._admit()
        try:
            return await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self.leave(given.result())
            else:
                given.cancel()
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            wanted, given = self._waiting[0]
            if not given.done():
                place = self._take(wanted)
                if place is None:
                    return
                given.set_result(place)
            self._waiting.popleft()


class Ticket:
    """One request's place. Held until `leave`."""

    def __init__(self, cells: int, place: Place) -> None:
        self.cells = cells
        self.place = place


class Admission(Line[tuple[int, Wish], Ticket]):
    def __init__(self, slots: Slots, cells: int) -> None:
        super().__init__()
        self._slots = slots
        self._cells = cells

    async def enter(self, cells: int, wish: Wish) -> Ticket:
        """Waits for a slot and so many cells, at most the whole pool. Cancelling the wait gives up the place."""
        return await self._wait((cells, wish))

    def leave(self, ticket: Ticket) -> None:
        self._slots.give(ticket.place.slot)
        self._cells += ticket.cells
        self._admit()

    def _take(self, wanted: tuple[int, Wish]) -> Ticket | None:
        cells, wish = wanted
        if not self._slots.free or cells > self._cells:
            return None
        self._cells -= cells
        return Ticket(cells, self._slots.take(wish))
