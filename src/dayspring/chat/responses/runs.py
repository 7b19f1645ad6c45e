"""Responses made in the background: their work, and the events that whoever comes back may read again.

What holds: an event's number is its place in the log, so a reader that comes with the last number it saw misses none
and sees none twice; a reader that leaves stops nothing. Logs are kept in this process alone, until KEEP_S after the
end; what outlives that is the stored object.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

import orjson

from dayspring.chat.responses.building import ResponseBuilder
from dayspring.core.errors import Busy

__all__ = ["Run", "Runs"]

KEEP_S = 300.0
_MOST_RUNNING = 1000
_MOST_ENDED = 256


class Run:
    """One response's work."""

    def __init__(self, builder: ResponseBuilder) -> None:
        self.builder = builder
        self.task: asyncio.Task[None] | None = None
        self.unwanted = False
        """Its caller cancelled it; otherwise what cancels it is the server's stop."""
        self.ended = False
        self._log: list[bytes] = []
        self._more = asyncio.Event()

    def add(self, events: list[dict[str, Any]], *, last: bool = False) -> None:
        """Those that are in the log already are passed over."""
        self._log += [orjson.dumps(event) for event in events if event["sequence_number"] >= len(self._log)]
        self.ended = last
        self._more.set()
        self._more = asyncio.Event()

    @property
    def queued(self) -> dict[str, Any]:
        """The object as it was when its work was accepted."""
        found: dict[str, Any] = orjson.loads(self._log[0])["response"]
        return found

    async def follow(self, after: int = -1) -> AsyncGenerator[dict[str, Any], None]:
        """The events behind number `after`, those to come too."""
        place = after + 1
        while True:
            more = self._more
            while place < len(self._log):
                yield orjson.loads(self._log[place])
                place += 1
            if self.ended:
                return
            await more.wait()


class Runs:
    """Those of this server."""

    def __init__(self) -> None:
        self._running: dict[str, Run] = {}
        self._ended: dict[str, Run] = {}

    def find(self, response_id: str) -> Run | None:
        return self._running.get(response_id) or self._ended.get(response_id)

    def running(self) -> list[str]:
        return list(self._running)

    def check_room(self) -> None:
        """Raises Busy when as many run as this server keeps in memory."""
        if len(self._running) >= _MOST_RUNNING:
            raise Busy(f"{_MOST_RUNNING} responses run in the background already", retry_after_s=10)

    def start(self, response_id: str, run: Run, work: Coroutine[Any, Any, None]) -> None:
        self._running[response_id] = run
        run.task = asyncio.get_running_loop().create_task(work)
        run.task.add_done_callback(lambda _: self._over(response_id, run))

    def _over(self, response_id: str, run: Run) -> None:
        del self._running[response_id]
        if not run.ended:  # it was refused before it began
            return
        while len(self._ended) >= _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[response_id] = run
        asyncio.get_running_loop().call_later(KEEP_S, self._ended.pop, response_id, None)

    async def cancel(self, response_id: str) -> bool:
        """Stops a run and waits for its end. False where none of this id runs here."""
        run = self._running.get(response_id)
        if run is None or run.task is None:
            return False
        run.unwanted = True
        run.task.cancel()
        await asyncio.wait((run.task,))
        return True

    def forget(self, response_id: str) -> None:
        self._ended.pop(response_id, None)

    async def close(self) -> None:
        """Stops every run; each is stored as failed with the stop as its reason, and paid for what it had made."""
        tasks = [run.task for run in self._running.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
