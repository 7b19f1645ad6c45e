"""DBOS, and nothing of it outside this module: which steps of a job are done, and which jobs are to be run again.

One workflow function serves every kind of job: it takes the job's id, has the job's code run in the server's event
loop, and records each step that the code asks for. DBOS keeps its own database (`jobs.db` in the data folder, or the
schema `dayspring_jobs` of the PostgreSQL database), polls its queue in threads of its own, and loads with the first
job, not with the server.

What holds: a step whose result is recorded is never run again; one that was under way when the process died is. The
application version is fixed, so a newer Dayspring takes up what an older one left. A stop leaves the work pending. What
is recorded is JSON, never pickle. DBOS opens no port, calls no service and handles no signal; it logs through us.
What it does not do: tell users anything. See `service`.
"""

import asyncio
import logging
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import make_url

from dayspring.store.engines import is_sqlite

if TYPE_CHECKING:
    from dbos import DBOSConfig

__all__ = ["SCHEMA", "Durable", "Steps", "make_tables", "server_id"]

APPLICATION_VERSION = "jobs-1"
"""DBOS runs again only what this version began. It changes never; a kind whose steps change takes another name."""

SCHEMA = "dayspring_jobs"
_POLL_S = 0.25
"""How often the queue is looked at; the most that a start and a resumption wait for it."""
_CRASHES = 10_000
"""DBOS's own bound on recoveries. Ours is tighter, and counts only those in which nothing was done: see `runs`."""
_POOL = 5


class _Stopped(BaseException):
    """Ends a workflow's thread without an outcome, so that the job is taken up at the next start.

    No Exception: DBOS records those.
    """


class Steps:
    """The way from a job's code, in the event loop, to the thread of its workflow, which records its steps."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asked: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()

    async def run(self, name: str, work: Callable[[], Coroutine[Any, Any, str]]) -> str:
        """What `work` returned, now or before the last death of the process; JSON text."""
        request = _Request(name, work, self._loop)
        self._asked.put(request)
        try:
            return await asyncio.wrap_future(request.done)
        except asyncio.CancelledError:
            await request.abandon()
            raise

    def close(self) -> None:
        """There are no more steps."""
        self._asked.put(None)

    def serve(self, record: "Callable[[str, Callable[[], str]], str]") -> None:
        """Records what is asked for, until `close`. In the workflow's thread."""
        while (request := self._asked.get()) is not None:
            if not request.done.set_running_or_notify_cancel():
                continue
            try:
                request.done.set_result(record(request.name, request.run))
            except Exception as error:  # noqa: BLE001 - it is the job's code that learns of it, and fails
                request.done.set_exception(error)
            except BaseException:
                request.done.set_exception(asyncio.CancelledError())
                raise


class _Request:
    def __init__(
        self, name: str, work: Callable[[], Coroutine[Any, Any, str]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.name = name
        self.done: Future[str] = Future()
        self._work = work
        self._loop = loop
        self._task: asyncio.Task[str] | None = None
        self._abandoned = False

    def run(self) -> str:
        """The step itself, in the event loop, waited for in this thread."""
        return str(_wait(asyncio.run_coroutine_threadsafe(self._begin(), self._loop)))

    async def _begin(self) -> str:
        if self._abandoned:
            raise asyncio.CancelledError
        self._task = asyncio.ensure_future(self._work())
        return await self._task

    async def abandon(self) -> None:
        """Cancels the step, and waits until it has ended well."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))


def _wait(future: "Future[Any]") -> Any:
    """Its result; _Stopped where the server's stop cancelled it."""
    try:
        return future.result()
    except (asyncio.CancelledError, FutureCancelled):
        raise _Stopped from None


class Durable:
    """`open` loads DBOS and takes up what is pending. One open at a time in a process, for DBOS is one."""

    def __init__(self, home: Path, database_url: str, server: str, concurrency: int) -> None:
        self._database_url = database_url
        self._file = home / "jobs.db"
        self._concurrency = concurrency
        self._queue = f"jobs-{server}"
        self._server = server

    def open(self, run: Callable[[str, Steps], Coroutine[Any, Any, None]], loop: asyncio.AbstractEventLoop) -> None:
        """Blocks for up to a second: call it in a thread. `run` runs one job in `loop`."""
        # Without a handler DBOS makes one of its own. Its news below a warning are advertisements.
        logging.getLogger("dbos").addHandler(logging.NullHandler())
        from dbos import DBOS  # loads in 0.3 s and 26 MB, which a server without jobs does not pay

        with _turn:
            DBOS(config=self._config())
            DBOS.listen_queues([self._queue])
            _current[:] = [(run, loop)]
            _workflow()
            DBOS.launch()
            DBOS.register_queue(
                self._queue,
                worker_concurrency=self._concurrency,
                polling_interval_sec=_POLL_S,
                on_conflict="always_update",
            )

    def enqueue(self, job_id: str) -> None:
        """Queues the job; one that is queued, running or done already stays as it is. Blocks."""
        from dbos import DBOS, SetWorkflowID

        with SetWorkflowID(job_id):
            DBOS.enqueue_workflow(self._queue, _workflow(), job_id)

    def again(self, job_id: str, succeeded: Callable[[str], bool]) -> None:
        """Queues a job that had ended, keeping the steps before the first that did not succeed. Blocks."""
        from dbos import DBOS

        steps = DBOS.list_workflow_steps(job_id)
        failed = [step["function_id"] for step in steps if step["error"] or not succeeded(step["output"] or "")]
        last = max((step["function_id"] for step in steps), default=0)
        DBOS.rewind_workflow(job_id, start_step=min(failed, default=last + 1), queue_name=self._queue)

    def known(self) -> dict[str, str]:
        """DBOS's status of each of this server's workflows. Blocks."""
        from dbos import DBOS

        found = DBOS.list_workflows(queue_name=self._queue, load_input=False, load_output=False)
        return {each.workflow_id: each.status for each in found}

    def forget(self, job_ids: list[str]) -> None:
        """Deletes the workflows of jobs that have ended. Blocks."""
        from dbos import DBOS

        DBOS.delete_workflows(job_ids)

    def close(self) -> None:
        """Ends DBOS's threads; what runs must have stopped. Blocks for up to a second or two."""
        from dbos import DBOS

        with _turn:
            DBOS.destroy()
            _current.clear()

    def _config(self) -> "DBOSConfig":
        from dbos import DBOSPortableJSONSerializer

        return {
            "name": "dayspring",
            "system_database_url": _system_url(self._file, self._database_url),
            "dbos_system_schema": SCHEMA,
            "application_version": APPLICATION_VERSION,
            "executor_id": self._server,
            "serializer": DBOSPortableJSONSerializer(),
            "sys_db_pool_size": _POOL,
            "log_level": "WARNING",
            "enable_otlp": False,
        }


_turn = threading.Lock()
_current: "list[tuple[Callable[[str, Steps], Coroutine[Any, Any, None]], asyncio.AbstractEventLoop]]" = []
"""Who runs jobs in this process; DBOS's registry of functions lives as long as the process, so ours asks here."""
_registered: "list[Callable[[str], None]]" = []


def _workflow() -> "Callable[[str], None]":
    """The one workflow function, registered with DBOS once."""
    if _registered:
        return _registered[0]
    from dbos import DBOS

    def record(name: str, work: Callable[[], str]) -> str:
        return DBOS.run_step({"name": name}, work)

    @DBOS.workflow(name="dayspring.job", max_recovery_attempts=_CRASHES)
    def job(job_id: str) -> None:
        if not _current:
            raise _Stopped
        run, loop = _current[0]
        steps = Steps(loop)
        running = asyncio.run_coroutine_threadsafe(run(job_id, steps), loop)
        running.add_done_callback(lambda _: steps.close())
        try:
            steps.serve(record)
        except BaseException:
            running.cancel()
            raise
        _wait(running)

    _registered.append(job)
    return job


def _system_url(file: Path, database_url: str) -> str:
    """Where DBOS keeps its tables."""
    if not is_sqlite(database_url):
        parsed = make_url(database_url).set(drivername="postgresql+psycopg")
        return parsed.render_as_string(hide_password=False)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return f"sqlite:///{file}"


def make_tables(home: Path, database_url: str) -> None:
    """DBOS's tables, empty, for a backup to be restored into. Blocks."""
    logging.getLogger("dbos").addHandler(logging.NullHandler())
    from dbos import DBOS

    DBOS.migrate(_system_url(home / "jobs.db", database_url), schema=SCHEMA)


def server_id(home: Path) -> str:
    """The name of a data folder, made once: whoever runs from it takes up its jobs."""
    path = home / "server.id"
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        made = secrets.token_hex(8)
        waiting = home / f".server.id.{made}"
        waiting.write_text(made + "\n", encoding="utf-8")
        waiting.replace(path)
        return path.read_text(encoding="utf-8").strip()
