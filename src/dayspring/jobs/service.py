"""Durable jobs: the verbs of whoever owns one, and of the rooms that have work for one.

A room registers a kind with its code; `start` (or `add` in a transaction of the room's own, then `wake`) makes a job
of it. Our table says what people see, DBOS what is done; at each start the two are brought together.

What holds: a job that was made is run to an end, whatever dies, by the data folder that made it, and by one process at
a time; at most `jobs_concurrency` run at once, in the order they were made. A stop leaves what runs to the next start.
Every verb sees the principal's project alone, an administrator's every one, a manager's the organization's.
What it does not do: load DBOS before there is a job.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from functools import partial

from sqlalchemy import Connection

from dayspring.accounts.principals import Principal, Scope
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, DayspringError, InvalidRequest, NotFound, Unavailable
from dayspring.core.settings import Settings
from dayspring.jobs import records
from dayspring.jobs.context import step_succeeded
from dayspring.jobs.durable import Durable, server_id
from dayspring.jobs.runs import Ended, Runs, Work
from dayspring.jobs.values import Job, JobEvent, NewJob
from dayspring.store.database import Database

__all__ = ["Jobs"]

log = logging.getLogger(__name__)

MAX_PAGE = 100
_LOOK_S = 1.0
"""How often a stream of events looks for what another server wrote."""
_OPEN_AGAIN_S = 5.0
_SETTLE_S = 0.1
_MADE = frozenset({"queued"})
_BEGUN = frozenset({"running"})
_FORGET = 500
"""Workflows forgotten at a time."""


class Jobs:
    """`open` before the first request, `close` when no more come."""

    def __init__(self, settings: Settings, db: Database, clock: Clock) -> None:
        self._settings = settings
        self._db = db
        self._clock = clock
        self._runs = Runs(db, clock, self._changed)
        self._server = ""
        self._durable: Durable | None = None
        self._opening: asyncio.Task[None] | None = None
        self._wanted = False
        self._closed = False
        self._closing = asyncio.Event()
        self._news: dict[str, asyncio.Event] = {}

    def register(self, kind: str, work: Work, ended: Ended | None = None) -> None:
        """Names the code of a kind, before `open`. It runs in the server's event loop.

        `ended` is told of each end in the transaction that keeps it.
        """
        if kind in self._runs.kinds:
            raise ValueError(f"two kinds of jobs are named {kind!r}")
        self._runs.kinds[kind] = work
        if ended is not None:
            self._runs.told[kind] = ended

    async def open(self) -> None:
        """Has what an earlier process left taken up, beside the requests."""
        self._server = server_id(self._settings.home)
        if await self._db.read(lambda connection: records.unfinished(connection, self._server)):
            self.wake()

    async def close(self) -> None:
        """Stops what runs, which stays pending; returns when DBOS is out of the process."""
        self._closed = True
        self._closing.set()
        for event in self._news.values():
            event.set()
        if self._opening is not None:
            await self._opening
        await self._runs.stop(self._settings.shutdown_grace_s)
        if self._durable is not None:
            await asyncio.to_thread(self._durable.close)

    def add(self, connection: Connection, new: NewJob) -> bool:
        """Makes the job in the caller's transaction, and whether it was new. `wake` has it run once committed."""
        self._known(new.kind)
        return records.add(connection, new, self._server, self._clock.time_ns())

    def wake(self) -> None:
        """Has what is queued taken up. Returns at once."""
        self._wanted = True
        if not self._closed and (self._opening is None or self._opening.done()):
            self._opening = asyncio.get_running_loop().create_task(self._reconcile())

    async def start(self, new: NewJob) -> Job:
        """Makes the job and has it run. The same id again is the same job. Raises InvalidRequest for no such kind."""
        self._known(new.kind)
        await self._db.write(lambda connection: self.add(connection, new))
        self.wake()
        return await self._find(new.id, None)

    async def get(self, principal: Principal, job_id: str) -> Job:
        """Raises NotFound, also for another project's."""
        job = await self._find(job_id, None)
        if not _sees(principal, job):
            raise _no_such_job(job_id)
        return job

    async def list(
        self,
        principal: Principal,
        *,
        kind: str | None = None,
        states: frozenset[str] = frozenset(),
        after: str | None = None,
        limit: int = 20,
    ) -> tuple[list[Job], bool]:
        """Newest first, and whether there are more. Raises InvalidRequest for a limit out of range."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"The limit is from 1 to {MAX_PAGE}. Correct it.", param="limit")
        organization = principal.organization_id if principal.may(Scope.MANAGE) else None
        project = None if organization is not None else principal.project_id
        if principal.is_admin:
            project = organization = None

        def read(connection: Connection) -> list[Job]:
            return records.page(
                connection, project_id=project, organization_id=organization, kind=kind, states=states, after=after,
                limit=limit + 1,
            )  # fmt: skip

        found = await self._db.read(read)
        return found[:limit], len(found) > limit

    async def cancel(self, principal: Principal, job_id: str) -> Job:
        """Asks for an end; at once where it has not begun. Idempotent. Raises NotFound; Conflict where it has ended."""
        job = await self.get(principal, job_id)
        if job.state in ("completed", "failed"):
            raise Conflict(f"The job {job_id} has {job.state} already", "There is nothing left to cancel.")
        await self._db.write(lambda connection: self.ask_end(connection, job_id))
        self.ask(job_id)
        return await self._find(job_id, None)

    def ask_end(self, connection: Connection, job_id: str) -> bool:
        """In the caller's transaction: ends a job that has not begun, and whether it did; else marks it. See `ask`."""
        now_ns = self._clock.time_ns()
        job = records.find(connection, job_id)
        # A process that does not know the kind could not tell its room: the server does, when the job's turn comes.
        knows = job is not None and job.kind in self._runs.kinds
        if knows and job is not None and records.move(connection, job_id, "cancelled", _MADE, now_ns):
            self._runs.tell(connection, job, "cancelled", None)
            return True
        records.move(connection, job_id, "cancelling", _MADE | _BEGUN, now_ns)
        return False

    def ask(self, job_id: str) -> None:
        """Tells the job's code, if it runs here, that it shall end."""
        context = self._runs.contexts.get(job_id)
        if context is not None:
            context.cancel()
        self._changed(job_id)

    async def retry(self, principal: Principal, job_id: str) -> Job:
        """Runs a failed or cancelled job again, from the step that failed. Raises NotFound, Conflict, Unavailable."""
        job = await self.get(principal, job_id)
        if job.state not in ("failed", "cancelled"):
            raise Conflict(f"The job {job_id} is {job.state}", "Only a job that failed or was cancelled is retried.")
        if job.server != self._server:
            raise Unavailable(f"The job {job_id} belongs to another server", "Ask the server that ran it.")
        now_ns = self._clock.time_ns()
        fresh = {"attempts": 0, "runs": job.runs + 1, "error": None, "finished_at_ns": None}
        states = frozenset({job.state})
        await self._db.write(lambda connection: records.move(connection, job_id, "queued", states, now_ns, **fresh))
        self._changed(job_id)
        self.wake()
        return await self._find(job_id, None)

    async def events(self, principal: Principal, job_id: str, after: int = 0) -> AsyncGenerator[JobEvent, None]:
        """What has happened since `after` and what happens, until the job has ended or the server stops."""
        await self.get(principal, job_id)
        while True:
            news = self._news.setdefault(job_id, asyncio.Event())
            job = await self._db.read(lambda connection: records.find(connection, job_id))
            found = await self._db.read(partial(records.events_after, job_id=job_id, seq=after))
            for event in found:
                after = event.seq
                yield event
            if not found and (job is None or job.ended or self._closed):
                self._changed(job_id)
                return
            if not found:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await news.wait()

    def _changed(self, job_id: str) -> None:
        news = self._news.pop(job_id, None)
        if news is not None:
            news.set()

    def _known(self, kind: str) -> None:
        if kind not in self._runs.kinds:
            raise InvalidRequest(f"There are no jobs of the kind {kind!r}. Use one that the server names.")

    async def _find(self, job_id: str, project_id: str | None) -> Job:
        job = await self._db.read(lambda connection: records.find(connection, job_id, project_id))
        if job is None:
            raise _no_such_job(job_id)
        return job

    async def _reconcile(self) -> None:
        """Opens DBOS where that was not done, and has it know every job that has not ended. Goes on until it could."""
        while self._wanted and not self._closed:
            self._wanted = False
            try:
                durable = self._durable or await self._load()
                settled = await self._queue_unfinished(durable)
            except DayspringError as error:
                log.warning("jobs cannot be taken up; this is tried again", extra={"reason": error.message})
                await self._wait(_OPEN_AGAIN_S)
            except Exception as error:  # whatever it is, the jobs wait and the server serves
                log.error("jobs cannot be taken up; this is tried again", exc_info=error)
                await self._wait(_OPEN_AGAIN_S)
            else:
                if not settled:
                    await self._wait(_SETTLE_S)

    async def _wait(self, seconds: float) -> None:
        """Then the jobs are looked at again."""
        self._wanted = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    async def _load(self) -> Durable:
        settings = self._settings
        durable = Durable(settings.home, settings.effective_database_url, self._server, settings.jobs_concurrency)
        await asyncio.to_thread(durable.open, self._runs.run, asyncio.get_running_loop())
        self._durable = durable
        return durable

    async def _queue_unfinished(self, durable: Durable) -> bool:
        """Brings DBOS in line with our table; False where a workflow was just between two states: look again."""
        statuses = await asyncio.to_thread(durable.known)
        succeeded = [job_id for job_id, status in statuses.items() if status == "SUCCESS"]

        def read(connection: Connection) -> tuple[list[Job], list[str]]:
            return records.unfinished(connection, self._server), [id_ for id_ in succeeded if _over(connection, id_)]

        jobs, over = await self._db.read(read)
        for begin in range(0, len(over), _FORGET):
            await asyncio.to_thread(durable.forget, over[begin : begin + _FORGET])
        settled = True
        for job in jobs:
            status = statuses.get(job.id)
            if status is None:
                await asyncio.to_thread(durable.enqueue, job.id)
            elif status == "PENDING":
                # Claimed and about to run, or, for a retry, about to be recorded as ended.
                settled = settled and job.state != "queued"
            elif status not in ("ENQUEUED", "DELAYED"):
                await asyncio.to_thread(durable.again, job.id, step_succeeded)
        return settled


def _over(connection: Connection, job_id: str) -> bool:
    """Whether nothing of its steps can be of use again."""
    job = records.find(connection, job_id)
    return job is None or job.state == "completed"


def _sees(principal: Principal, job: Job) -> bool:
    if principal.is_admin:
        return True
    if principal.may(Scope.MANAGE):
        return principal.organization_id == job.organization_id
    return principal.project_id == job.project_id


def _no_such_job(job_id: str) -> NotFound:
    return NotFound("job", job_id, "GET /v1/jobs lists those of this project.")
