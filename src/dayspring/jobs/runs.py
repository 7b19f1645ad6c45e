"""One run of one job: take it up, run its kind's code, keep how it ended.

What holds: a job that has ended is not run again, whatever is pending; how it ended is kept before DBOS hears that it
is over, so a death between the two changes nothing. A job whose process died several times before it got anywhere is
failed with that reason. A stop of the server leaves the job as it is. A database that cannot be written is waited for.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection

from dayspring.contracts.clock import Clock
from dayspring.core.errors import DayspringError, Defect, Unavailable
from dayspring.jobs import records
from dayspring.jobs.context import JobContext
from dayspring.jobs.durable import Steps
from dayspring.jobs.values import Failure, Job, JobCancelled, JobState
from dayspring.store.database import Database

__all__ = ["MAX_ATTEMPTS", "Ended", "Runs", "Work"]

log = logging.getLogger(__name__)

T = TypeVar("T")

Work = Callable[[JobContext], Awaitable[None]]
"""A kind's code."""

Ended = Callable[[Connection, str, str, Failure | None], None]
"""Told of a job's end (its id, state and failure) in the transaction that keeps it."""

MAX_ATTEMPTS = 8
"""Times a job may be taken up in a row without a step finished or progress made. It is the likely cause of the deaths
between; a server that is killed for other reasons rarely dies so often within one step."""

_AGAIN_S = 1.0
_RUNNING = frozenset({"running", "cancelling"})


class Runs:
    """The jobs that run in this process, by id."""

    def __init__(self, db: Database, clock: Clock, changed: Callable[[str], None]) -> None:
        self._db = db
        self._clock = clock
        self._changed = changed
        self.kinds: dict[str, Work] = {}
        self.told: dict[str, Ended] = {}
        self.contexts: dict[str, JobContext] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._stopping = False

    async def run(self, job_id: str, steps: Steps) -> None:
        """To its end, or until the server stops. Raises CancelledError alone."""
        if self._stopping:
            raise asyncio.CancelledError
        if (task := asyncio.current_task()) is not None:
            self._tasks[job_id] = task
        try:
            job = await self._write(lambda connection: records.take_up(connection, job_id, self._clock.time_ns()))
            if job is not None:
                await self._run(job, steps)
        finally:
            self._tasks.pop(job_id, None)
            self.contexts.pop(job_id, None)

    async def stop(self, grace_s: float) -> None:
        """Lets each job end where its code ends by itself in time, and leaves the others pending."""
        self._stopping = True
        tasks = list(self._tasks.values())
        for context in self.contexts.values():
            context.leave()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tell(self, connection: Connection, job: Job, state: str, failure: Failure | None) -> None:
        """Tells the room whose job it is, in the transaction that ends it."""
        if (told := self.told.get(job.kind)) is not None:
            told(connection, job.id, state, failure)

    async def _run(self, job: Job, steps: Steps) -> None:
        self._changed(job.id)
        context = self.contexts[job.id] = JobContext(job, steps, self._db, self._clock, self._changed)
        state: JobState = "completed"
        failure: Failure | None = None
        try:
            await self._work(job)(context)
        except JobCancelled:
            state = "cancelled"
        except DayspringError as error:
            state, failure = "failed", Failure.of(error)
        except Exception as error:
            log.error("a job failed", exc_info=error, extra={"job_id": job.id, "kind": job.kind})
            state, failure = "failed", Failure.of(Defect(job.id))
        await self._end(context, state, failure)

    def _work(self, job: Job) -> Work:
        """The code of the job's kind. Raises Unavailable where it must not run."""
        if job.attempts > MAX_ATTEMPTS:
            raise Unavailable(
                f"The server ended {MAX_ATTEMPTS} times while it ran this job, before the job got anywhere",
                "Look into the server's log for the reason, then retry the job.",
            )
        work = self.kinds.get(job.kind)
        if work is None:
            raise Unavailable(
                f"This version of the server has no jobs of the kind {job.kind!r}",
                "Install the version that began it, and retry the job.",
            )
        return work

    async def _end(self, context: JobContext, state: JobState, failure: Failure | None) -> None:
        job_id, now_ns = context.id, self._clock.time_ns()
        error = None if failure is None else msgspec.json.encode(failure).decode()

        def end(connection: Connection) -> None:
            if context.pending is not None:
                records.report(connection, job_id, context.pending, now_ns)
            if not records.move(connection, job_id, state, _RUNNING, now_ns, error=error):
                return
            if failure is not None:
                records.add_event(connection, job_id, now_ns, "message", failure.message, {"code": failure.code})
            self.tell(connection, context.job, state, failure)

        await self._write(end)
        self._changed(job_id)
        log.info("job ended", extra={"job_id": job_id, "kind": context.job.kind, "status": state})

    async def _write(self, fn: Callable[[Connection], T]) -> T:
        while True:
            try:
                return await self._db.write(fn)
            except Unavailable:
                await asyncio.sleep(_AGAIN_S)
