"""The database: writes by group commit in one thread, reads by a few threads with connections of their own.

What holds: `write` returns after its transaction is committed; `read` sees one snapshot, which includes every write
that returned before it began. Both work from asyncio and, with `_sync`, from any other thread.
What it does not do: migrate (`migrate`), or know any table.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import Connection, Engine

from dayspring.core.errors import Unavailable
from dayspring.store.engines import Synchronous, as_refusal, make_engine
from dayspring.store.writer import Job, Writer

__all__ = ["Database"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_READERS = 4


class Database:
    """One open database. Make it with `open`; close it when the last caller is done."""

    def __init__(self, url: str, writing: Engine, reading: Engine, *, here: bool = False) -> None:
        self.url = url
        """May hold a password: never log it."""
        self.dialect: Literal["sqlite", "postgresql"] = "sqlite" if writing.dialect.name == "sqlite" else "postgresql"
        self._writing = writing
        self._reading = reading
        self._writer = Writer(writing, here=here)
        self._here = here
        self._pending: list[Job] = []
        self._pending_loop: asyncio.AbstractEventLoop | None = None
        """Writes of this turn of the event loop, which are written together at its end."""
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="store-reader")

    @classmethod
    def open(cls, url: str, synchronous: Synchronous = "NORMAL") -> Self:
        """Opens without migrating. Raises InvalidRequest for a URL of no known kind, Unavailable for no connection."""
        writing = make_engine(url, synchronous=synchronous, size=2)
        reading = make_engine(url, synchronous=synchronous, readonly=True, size=_READERS * 2)
        try:
            # With FULL each commit waits for the disk, and PostgreSQL's for the network: those are the thread's.
            here = writing.dialect.name == "sqlite" and synchronous == "NORMAL"
            return cls(url, writing, reading, here=here)
        except writing.dialect.loaded_dbapi.Error as error:
            raise _unreachable() from error
        except Exception as error:
            if getattr(error, "orig", None) is None:
                raise
            raise _unreachable() from error

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """What `fn` returned, once committed.

        `fn` runs at the end of this turn of the loop or in the writer's thread, perhaps twice, in a transaction shared
        with others: it must be a function of the connection alone, quick, and must not commit. It may raise a
        DayspringError before it wrote anything, which refuses it alone. When the awaiting task is cancelled the write
        is done all the same.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue(Job(fn, future, loop), loop)
        return await future

    def _queue(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """In order: for the end of this turn of the loop, or for the thread."""
        if not self._here or self._pending_loop not in (None, loop):
            self._writer.put(job)
            return
        self._pending.append(job)
        if self._pending_loop is None:
            self._pending_loop = loop
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Writes what this turn of the loop brought: here when that waits for nothing, else in the thread."""
        jobs, self._pending, self._pending_loop = self._pending, [], None
        if not jobs or self._writer.write_here(jobs):
            return
        for job in jobs:
            try:
                self._writer.put(job)
            except Unavailable as closed:
                if not job.future.done():
                    job.future.set_exception(closed)

    def post(self, fn: Callable[[Connection], T]) -> Future[T]:
        """As `write`, without waiting; after every write queued before."""
        future: Future[T] = Future()
        self._writer.put(Job(fn, future, None))
        return future

    def follow(self, fn: Callable[[Connection], object]) -> None:
        """As `write`, without waiting; from the event loop, after every write that it began before."""
        loop = asyncio.get_running_loop()
        self._queue(Job(fn, loop.create_future(), loop), loop)

    def write_sync(self, fn: Callable[[Connection], T]) -> T:
        """As `write`, for a thread without an event loop; it blocks."""
        if self._writer.is_current_thread:
            raise RuntimeError("write_sync inside a write would wait for itself")
        return self.post(fn).result()

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """What `fn` returned from one snapshot. `fn` runs in a reader's thread and cannot write."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_sync, fn)

    def read_sync(self, fn: Callable[[Connection], T]) -> T:
        """As `read`, in the calling thread."""
        try:
            return self._read(fn)
        except Exception as error:
            refusal = as_refusal(error)
            if refusal is not error:
                raise refusal from None
            if not self._is_lost(error):
                raise
        # The connection broke, or PostgreSQL is starting again: reading twice changes nothing.
        try:
            return self._read(fn)
        except Exception as error:
            if not self._is_lost(error):
                raise
            log.warning("the database cannot be read: %s", type(getattr(error, "orig", None) or error).__name__)
            raise Unavailable(
                "The database cannot be read now", "Try again; if it lasts, run 'dayspring doctor'.", retry_after_s=1
            ) from error

    def _is_lost(self, error: Exception) -> bool:
        """Whether it was the connection that failed, not what was asked."""
        driver: Any = self._reading.dialect.loaded_dbapi
        cause = getattr(error, "orig", None) or error
        return self.dialect == "postgresql" and isinstance(cause, driver.OperationalError | driver.InterfaceError)

    def _read(self, fn: Callable[[Connection], T]) -> T:
        with self._reading.connect() as connection:
            driver: Any = connection.connection.driver_connection
            if self.dialect == "sqlite":
                driver.execute("BEGIN")
            try:
                return fn(connection)
            finally:
                if connection.in_transaction():
                    connection.rollback()
                driver.rollback()

    def close(self) -> None:
        """Commits what is queued and lets go of every connection."""
        jobs, self._pending, self._pending_loop = self._pending, [], None
        for job in jobs:
            self._writer.put(job)
        self._writer.close()
        self._readers.shutdown()
        self._writing.dispose()
        self._reading.dispose()


def _unreachable() -> Unavailable:
    return Unavailable(
        "The database cannot be opened",
        "Check DAYSPRING_DATABASE_URL, that the server behind it runs, and that the file may be written.",
    )
