"""Answers the lines of one chunk, some at a time, into its journal.

What holds: lines that the journal has are not answered again; when the batch is cancelled, has expired, or the server
stops, no further line is begun and those under way are waited for. After an expiry the lines left are written as
expired. A chunk that a stop leaves unfinished keeps its journal.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from dayspring.accounts.principals import Principal
from dayspring.batches.answering import Answering, expired
from dayspring.batches.folder import ChunkJournal, WorkFolder
from dayspring.batches.lines import Request, read_chunk
from dayspring.batches.values import Batch, Chunk, Outcome, Tally
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Unauthenticated

__all__ = ["ChunkRun"]


class Halts(Protocol):
    """Whether to go on: a job's context."""

    @property
    def cancelled(self) -> bool: ...

    @property
    def leaving(self) -> bool: ...

    def leave_if_stopping(self) -> None:
        """Raises CancelledError when the server is stopping."""


Told = Callable[[Tally, int], Awaitable[None]]
"""Told of what the chunk has come to so far, and of the batch's number of requests."""


class ChunkRun:
    """`told` hears of every line; `who` says who asks, and raises Unauthenticated when nobody may any more."""

    def __init__(
        self,
        folder: WorkFolder,
        chunk: tuple[int, Chunk],
        batch: Batch,
        context: Halts,
        answering: Answering,
        clock: Clock,
        *,
        who: Callable[[], Awaitable[Principal]],
        told: Told,
        at_once: int,
    ) -> None:
        self._folder = folder
        self._index, self._chunk = chunk
        self._batch = batch
        self._context = context
        self._answering = answering
        self._clock = clock
        self._who = who
        self._told = told
        self._at_once = at_once
        self._tally = Tally()
        self._fault: Exception | None = None

    async def run(self) -> tuple[Tally, bool]:
        """What the chunk came to, and whether all of it was done: False when the batch was cancelled.

        Raises Unauthenticated, OSError, and CancelledError when the server stops.
        """
        journal = self._folder.chunk(self._index)
        finished = await asyncio.to_thread(journal.finished)
        if finished is not None:
            return finished, True
        requests = await asyncio.to_thread(read_chunk, self._folder.input, self._chunk)
        try:
            answered = await asyncio.to_thread(journal.open)
            for each in answered.values():
                self._tally = self._tally.plus(each)
            left = [request for request in requests if request.number not in answered]
            await self._answer(journal, left)
        finally:
            await asyncio.to_thread(journal.close)
        if self._fault is not None:
            raise self._fault
        if self._tally.completed + self._tally.failed < len(requests):
            self._context.leave_if_stopping()
            return self._tally, False
        return await asyncio.to_thread(journal.finish), True

    async def _answer(self, journal: ChunkJournal, left: list[Request]) -> None:
        pending = iter(left)
        lanes = [asyncio.ensure_future(self._lane(journal, pending)) for _ in range(min(self._at_once, len(left)))]
        try:
            await asyncio.gather(*lanes)
        except BaseException:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            raise

    async def _lane(self, journal: ChunkJournal, pending: Iterator[Request]) -> None:
        """One line after the other, until there is none or none shall be begun."""
        for request in pending:
            if self._fault is not None or self._context.cancelled or self._context.leaving:
                return
            try:
                outcome = await self._outcome(request)
                journal.add(outcome)
                self._tally = self._tally.plus(outcome.tally)
                if journal.is_unsynced:
                    await asyncio.to_thread(journal.sync)
            except (Unauthenticated, OSError) as error:
                self._fault = self._fault or error
                return
            await self._told(self._tally, self._batch.total)

    async def _outcome(self, request: Request) -> Outcome:
        if self._clock.time_ns() >= self._batch.expires_at_ns:
            return expired(self._batch.id, request)
        return await self._answering.answer(self._who, self._batch.id, self._batch.endpoint, request)
