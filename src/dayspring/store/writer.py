"""The one who writes: group commit, in a thread of its own or, where no disk is waited for, in the event loop's.

It takes every callable that is queued, runs them in one transaction, commits once, and then tells all that wait. So the
cost of a commit is shared by whatever arrived while the last one ran, and nobody waits for a timer.

What holds: a callable's result is delivered only after its transaction is committed. A callable that raises
DayspringError before it wrote is refused alone. Any other exception, and a DayspringError after a write, rolls the
whole batch back, and then each callable is run again in a transaction of its own, so that only the guilty one fails. A
caller that stops waiting changes nothing: the write is done all the same.
What it does not do: order. Two writes queued by two tasks may commit in either order, in one transaction or in two.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future as ThreadFuture
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

from dayspring.core.errors import DayspringError, Unavailable
from dayspring.store import failpoints
from dayspring.store.engines import BUSY_TIMEOUT_S, as_refusal
from dayspring.store.statements import WRITES

__all__ = ["Job", "Writer"]

_MAX_BATCH: Final = 256
_CHECKPOINT_JOBS: Final = 4000
"""Writes between two checkpoints: some 10,000 pages of log."""
_ATTEMPTS: Final = 5
"""Tries of one callable alone when the database says that another writer was in its way, or the connection broke."""

_TRANSIENT: Final = {"40001", "40P01", "55P03"}
"""PostgreSQL: serialization failure, deadlock, lock not available."""

_log = logging.getLogger(__name__)


class _NoTransaction(Exception):  # noqa: N818 - never leaves this module
    """No transaction could be begun: nothing ran."""


class _Checkpoint:
    """Asks the thread to move the write-ahead log into the file."""


class Job:
    """One callable and who waits for it: a future of `loop`, or of any thread where `loop` is None."""

    __slots__ = ("error", "fn", "future", "loop", "value")

    def __init__(
        self,
        fn: Callable[[Connection], Any],
        future: "asyncio.Future[Any] | ThreadFuture[Any]",
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.fn = fn
        self.future = future
        self.loop = loop
        self.value: Any = None
        self.error: BaseException | None = None


class Writer:
    """Owns one connection of `engine` and the thread `store-writer`."""

    def __init__(self, engine: Engine, *, here: bool = False) -> None:
        """`here`: `write_here` may write in the caller's thread. For SQLite that waits for no disk at a commit."""
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._here = here
        self._turn = threading.Lock()
        """Whoever uses the connection holds it."""
        self._outstanding = 0
        """Jobs given to the thread and not delivered."""
        self._since_checkpoint = 0
        if not self._sqlite:
            event.listen(engine, "after_cursor_execute", _count_write)
        self._queue: queue.SimpleQueue[Job | _Checkpoint | None] = queue.SimpleQueue()
        self._connection = engine.connect()
        self._driver: Any = self._connection.connection.driver_connection
        if here:
            # Moving the log into the file waits for the disk: the thread does that, between and beside the writes.
            driver: Any = self._driver
            driver.execute("PRAGMA wal_autocheckpoint = 0")
            driver.execute("PRAGMA busy_timeout = 0")
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._gate = threading.Lock()
        self._closed = False
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queues the job. Raises Unavailable after `close`, so that no caller waits for ever."""
        with self._gate:
            if self._closed:
                raise Unavailable("The database is closed", "Start the server again.")
            self._outstanding += 1
            self._queue.put(job)

    def write_here(self, jobs: list[Job]) -> bool:
        """Writes the batch in the calling thread and sets its futures; False, and nothing is written, where the
        thread should do it: it is at work, another process writes, or a callable failed and each must run alone."""
        if not self._here or self._outstanding or self._closed or not self._turn.acquire(blocking=False):
            return False
        try:
            self._driver.execute("BEGIN IMMEDIATE")
        except self._engine.dialect.loaded_dbapi.OperationalError:
            self._turn.release()
            return False
        try:
            self._run_jobs(jobs)
        except BaseException:  # noqa: BLE001 - the thread runs each again, and tells the guilty one's caller
            self._roll_back()
            return False
        finally:
            self._turn.release()
        self._count(len(jobs))
        _resolve(jobs)
        return True

    def _count(self, jobs: int) -> None:
        """Has the log moved into the file now and then."""
        self._since_checkpoint += jobs
        if self._here and self._since_checkpoint >= _CHECKPOINT_JOBS:
            self._since_checkpoint = 0
            self._queue.put(_Checkpoint())

    def close(self) -> None:
        """Commits what is queued, then ends the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    @property
    def is_current_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        closing = False
        while not closing:
            jobs, checkpoint, closing = self._take()
            if jobs:
                with self._turn:
                    self._write(jobs)
                _deliver(jobs)
                self._count(len(jobs))
                with self._gate:
                    self._outstanding -= len(jobs)
            if checkpoint:
                self._checkpoint()
        self._connection.close()

    def _take(self) -> tuple[list[Job], bool, bool]:
        """What is queued, whether a checkpoint and whether the end was among it. Waits for the first."""
        jobs: list[Job] = []
        checkpoint = False
        item = self._queue.get()
        with contextlib.suppress(queue.Empty):
            while item is not None:
                if isinstance(item, _Checkpoint):
                    checkpoint = True
                else:
                    jobs.append(item)
                if len(jobs) >= _MAX_BATCH:
                    return jobs, checkpoint, False
                item = self._queue.get_nowait()
            return jobs, checkpoint, True
        return jobs, checkpoint, False

    def _checkpoint(self) -> None:
        """Moves the log into the file: most of it beside the writes, the rest between two of them."""
        try:
            with self._engine.connect() as beside:
                beside.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            with self._turn:
                self._driver.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except Exception:  # noqa: BLE001 - the log only stays long; the next one moves it
            _log.warning("the write-ahead log could not be moved into the database", exc_info=True)

    def _write(self, jobs: list[Job]) -> None:
        try:
            self._commit(jobs)
        except _NoTransaction:
            for job in jobs:
                job.error = _cannot_write()
        except BaseException as error:  # noqa: BLE001 - whatever a callable raised belongs to its caller
            retry = len(jobs) > 1 or self._is_transient(error)
            self._roll_back()
            if not retry:
                jobs[0].error = as_refusal(error)
                return
            for job in jobs:
                self._write_alone(job)

    def _write_alone(self, job: Job) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._commit([job])
            except _NoTransaction:
                job.error = _cannot_write()
            except BaseException as error:  # noqa: BLE001 - as above
                transient = self._is_transient(error)
                self._roll_back()
                job.error = as_refusal(error)
                if transient and attempt + 1 < _ATTEMPTS:
                    continue
            return

    def _commit(self, jobs: list[Job]) -> None:
        """All jobs in one transaction. Raises what makes it impossible to commit them together."""
        self._begin()
        self._run_jobs(jobs)

    def _run_jobs(self, jobs: list[Job]) -> None:
        """Runs and commits the jobs in the transaction that was begun."""
        connection = self._connection
        for job in jobs:
            job.value = job.error = None
            before = self._writes()
            try:
                job.value = job.fn(connection)
            except DayspringError as error:
                if self._writes() != before:
                    raise
                job.error = error
        failpoints.hit("store.before-commit")
        if connection.in_transaction():
            connection.commit()
        self._driver.commit()
        failpoints.hit("store.after-commit")

    def _writes(self) -> int:
        """Goes up whenever a row is written."""
        written: int = self._driver.total_changes if self._sqlite else self._connection.info.get(WRITES, 0)
        return written

    def _begin(self) -> None:
        if self._sqlite:
            try:
                if self._here:
                    self._driver.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
                self._driver.execute("BEGIN IMMEDIATE")
            except self._engine.dialect.loaded_dbapi.OperationalError as error:
                _log.exception("SQLite did not give the write lock")
                raise _NoTransaction from error
            finally:
                if self._here:
                    self._driver.execute("PRAGMA busy_timeout = 0")
        elif self._driver is None or self._driver.closed:
            self._reconnect()

    def _reconnect(self) -> None:
        with contextlib.suppress(Exception):  # the old connection is broken; how it fails to close says nothing new
            self._connection.invalidate()
            self._connection.close()
        self._driver = None
        try:
            self._connection = self._engine.connect()
        except Exception as error:
            _log.exception("the database cannot be reached")
            raise _NoTransaction from error
        self._driver = self._connection.connection.driver_connection

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction():
                self._connection.rollback()
            self._driver.rollback()
        except Exception:  # noqa: BLE001 - a rollback fails only with the connection; the next begin opens another
            _log.warning("the writer's connection broke; it is opened again")
            if not self._sqlite:
                with contextlib.suppress(Exception):
                    self._driver.close()

    def _is_transient(self, error: BaseException) -> bool:
        """Whether the same callable may succeed at once: another writer was in the way, or the connection broke."""
        cause = getattr(error, "orig", None) or error
        if getattr(cause, "sqlstate", None) in _TRANSIENT:
            return True
        return not self._sqlite and self._driver is not None and bool(self._driver.closed)


def _count_write(connection: Connection, cursor: Any, statement: str, *_: object) -> None:
    if cursor.rowcount and statement.lstrip()[:6].upper() != "SELECT":
        connection.info[WRITES] = connection.info.get(WRITES, 0) + 1


def _cannot_write() -> Unavailable:
    return Unavailable(
        "The database cannot be written now", "Try again; if it lasts, run 'dayspring doctor'.", retry_after_s=1
    )


def _deliver(jobs: list[Job]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.loop is None:
            _resolve([job])
        else:
            loops.setdefault(job.loop, []).append(job)
    for loop, waiting in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, waiting)


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.value)
        else:
            job.future.set_exception(job.error)
