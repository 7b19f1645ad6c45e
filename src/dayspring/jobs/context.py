"""What a job's code sees of its job: its arguments, its steps, a place for progress, and whether it shall stop.

What holds: the result of a step is recorded before the code goes on, and the recorded one is returned ever after; a
step that failed fails again with the same error until the job is retried. Progress is kept at most once a second.
What it does not do: undo. A step under way when the process dies is run again, so a step must bear that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from dayspring.contracts.clock import Clock
from dayspring.core.errors import DayspringError, Defect
from dayspring.jobs import records
from dayspring.jobs.durable import Steps
from dayspring.jobs.values import Failure, Job, JobCancelled, Progress
from dayspring.store.database import Database

__all__ = ["JobContext", "step_succeeded"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROGRESS_NS = 1_000_000_000


class _Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a step ended, as it is recorded."""

    value: Any = None
    error: Failure | None = None
    cancelled: bool = False


def step_succeeded(recorded: str) -> bool:
    """Whether the recorded text is that of a step that need not be repeated."""
    try:
        outcome = msgspec.json.decode(recorded, type=_Outcome)
    except msgspec.DecodeError:
        return False
    return outcome.error is None and not outcome.cancelled


class JobContext:
    """One run of one job. All of it belongs to the server's event loop."""

    def __init__(self, job: Job, steps: Steps, db: Database, clock: Clock, changed: Callable[[str], None]) -> None:
        self.job = job
        self._steps = steps
        self._db = db
        self._clock = clock
        self._changed = changed
        self._stop = asyncio.Event()
        self._advanced = False
        self._reported_ns = 0
        self.pending: Progress | None = None
        """Told, and not kept yet."""
        self._leaving = asyncio.Event()
        if job.state == "cancelling":
            self._stop.set()

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def cancelled(self) -> bool:
        """Whether someone has asked for an end. The code stops at the next place where that leaves things whole."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raises JobCancelled when someone has asked for an end."""
        if self.cancelled:
            raise JobCancelled

    async def until_cancelled(self) -> None:
        """Returns when someone asks for an end."""
        await self._stop.wait()

    def cancel(self) -> None:
        """Asks for an end. Idempotent."""
        self._stop.set()

    @property
    def leaving(self) -> bool:
        """Whether the server is stopping. Code that begins nothing new now has the grace to end what is under way."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """Tells the code that the server is stopping."""
        self._leaving.set()

    def leave_if_stopping(self) -> None:
        """Ends this run, without an outcome, when the server is stopping: the next start takes the job up again."""
        if self.leaving:
            raise asyncio.CancelledError

    async def step(self, name: str, work: Callable[[], Awaitable[T]], kind: type[T]) -> T:
        """Runs `work` and records what it returned, a JSON value of type `kind`, or returns what was recorded.

        Steps are told apart by their order, so the code must ask for the same ones each time. Raises what `work`
        raised: a DayspringError as it was, anything else as a Defect.
        """

        async def outcome() -> str:
            return msgspec.json.encode(await self._outcome(name, work)).decode()

        recorded = msgspec.json.decode(await self._steps.run(name, outcome), type=_Outcome)
        if recorded.cancelled:
            raise JobCancelled
        if recorded.error is not None:
            raise recorded.error.rebuilt()
        if not self._advanced:
            self._advanced = True
            await self._report(None)
        return msgspec.convert(recorded.value, kind)

    async def progress(self, done: int, total: int, note: str = "") -> bool:
        """Tells how far it is. True when that was kept now; else it is with a later report or at the end."""
        self.pending = Progress(done, total, note)
        if self._clock.monotonic_ns() - self._reported_ns < _PROGRESS_NS:
            return False
        await self.flush()
        return True

    async def flush(self) -> None:
        """Keeps the last progress now."""
        pending, self.pending = self.pending, None
        if pending is not None:
            self._reported_ns = self._clock.monotonic_ns()
            await self._report(pending)

    async def _report(self, progress: Progress | None) -> None:
        now_ns = self._clock.time_ns()
        state = await self._db.write(lambda connection: records.report(connection, self.id, progress, now_ns))
        self._changed(self.id)
        if state == "cancelling":  # another server was asked
            self.cancel()

    async def _outcome(self, name: str, work: Callable[[], Awaitable[Any]]) -> _Outcome:
        try:
            return _Outcome(value=await work())
        except JobCancelled:
            return _Outcome(cancelled=True)
        except DayspringError as error:
            return _Outcome(error=Failure.of(error))
        except Exception as error:
            log.error("a step of a job failed", exc_info=error, extra={"job_id": self.id, "step": name})
            return _Outcome(error=Failure.of(Defect(self.id)))
