"""Who may enter the library's server, so that nobody is overtaken for ever.

The server fills each batch from its slots in their order and passes over what does not fit. Under steady load the first
slots are refilled at once, and an input in a later one may wait as long as others come. Here a newcomer waits at the
door as soon as someone inside was overtaken as often as there are slots: then the batch has room for them.

What holds: first come, first served at the door; inside, each is overtaken by a bounded number of others, twice the
slots at most. What it does not do: measure how large an input is.
"""

from dayspring.engines.llamacpp.admission import Line

__all__ = ["Turns"]


class Turns(Line[None, int]):
    def __init__(self, slots: int) -> None:
        super().__init__()
        self._slots = slots
        self._inside: dict[int, int] = {}
        """Each that is inside, in the order they came, and how many that came later have left."""
        self._next = 0

    async def enter(self) -> int:
        """Waits for a place inside; what `leave` takes. Cancelling the wait gives up the place."""
        return await self._wait(None)

    def leave(self, number: int) -> None:
        del self._inside[number]
        for other in self._inside:
            if other < number:
                self._inside[other] += 1
        self._admit()

    def _take(self, _: None) -> int | None:
        if len(self._inside) >= self._slots or max(self._inside.values(), default=0) >= self._slots:
            return None
        number = self._next
        self._inside[number] = 0
        self._next += 1
        return number
