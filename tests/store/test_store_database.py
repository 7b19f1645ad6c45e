"""Group commit: what is refused alone, what fails alone, what survives whom."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from dayspring.core.errors import Conflict, InvalidRequest, Unavailable
from dayspring.store import writer
from dayspring.store.database import Database

_TABLE = "CREATE TABLE things (n INTEGER PRIMARY KEY)"


@pytest.fixture
def db(database: Database) -> Database:
    database.write_sync(lambda connection: connection.execute(text(_TABLE)) and None)
    return database


def _insert(n: int) -> Callable[[Connection], int]:
    def insert(connection: Connection) -> int:
        connection.execute(text("INSERT INTO things VALUES (:n)"), {"n": n})
        return n

    return insert


def _things(connection: Connection) -> list[int]:
    return [row.n for row in connection.execute(text("SELECT n FROM things ORDER BY n"))]


def _refuse(_connection: Connection) -> None:
    raise Conflict("This is refused", "Do nothing.")


def _break(connection: Connection) -> None:
    _insert(1000)(connection)
    raise ZeroDivisionError


class _Gate:
    """Holds the writer in a transaction, so that what is queued meanwhile becomes one batch."""

    def __init__(self, db: Database) -> None:
        self._open = threading.Event()
        self._held = threading.Event()
        self._done = db.post(self._hold)
        assert self._held.wait(10)

    def _hold(self, _connection: Connection) -> None:
        self._held.set()
        assert self._open.wait(10)

    def open(self) -> None:
        self._open.set()


async def test_results_come_back_each_to_its_caller(db: Database) -> None:
    assert await asyncio.gather(*(db.write(_insert(n)) for n in range(50))) == list(range(50))
    assert await db.read(_things) == list(range(50))


async def test_queued_writes_share_one_transaction(db: Database) -> None:
    gate = _Gate(db)
    seen: list[object] = []
    number = "txid_current()" if db.dialect == "postgresql" else "total_changes() - (SELECT count(*) FROM things)"

    def note(connection: Connection) -> None:
        _insert(len(seen))(connection)
        seen.append(connection.execute(text(f"SELECT {number}")).scalar())

    waiting = [asyncio.create_task(db.write(note)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(*waiting)
    assert len(set(seen)) == 1


async def test_a_refused_callable_leaves_its_batch_alone(db: Database) -> None:
    gate = _Gate(db)
    runs: list[int] = []

    def counted(connection: Connection) -> int:
        runs.append(1)
        return _insert(1)(connection)

    waiting = [asyncio.create_task(db.write(fn)) for fn in (counted, _refuse, _insert(2))]
    await asyncio.sleep(0)
    gate.open()
    one, refused, two = await asyncio.gather(*waiting, return_exceptions=True)
    assert (one, two) == (1, 2)
    assert isinstance(refused, Conflict)
    assert len(runs) == 1
    assert await db.read(_things) == [1, 2]


async def test_only_the_guilty_callable_of_a_batch_fails(db: Database) -> None:
    gate = _Gate(db)
    waiting = [asyncio.create_task(db.write(fn)) for fn in (_insert(1), _break, _insert(2), _insert(1))]
    await asyncio.sleep(0)
    gate.open()
    one, broken, two, twice = await asyncio.gather(*waiting, return_exceptions=True)
    assert (one, two) == (1, 2)
    assert isinstance(broken, ZeroDivisionError)
    assert type(twice).__name__ == "IntegrityError"
    assert await db.read(_things) == [1, 2]


async def test_a_refusal_after_a_write_leaves_nothing_written(db: Database) -> None:
    def late(connection: Connection) -> None:
        _insert(5)(connection)
        raise Conflict("This comes too late", "Raise first.")

    gate = _Gate(db)
    waiting = [asyncio.create_task(db.write(fn)) for fn in (_insert(1), late)]
    await asyncio.sleep(0)
    gate.open()
    one, refused = await asyncio.gather(*waiting, return_exceptions=True)
    assert one == 1
    assert isinstance(refused, Conflict)
    assert await db.read(_things) == [1]


async def test_a_text_that_the_database_does_not_hold_is_refused_alone(db: Database) -> None:
    said = {"s": "a\0b"}

    def look(connection: Connection) -> int:
        return len(connection.execute(text("SELECT 1 FROM things WHERE CAST(n AS TEXT) = :s"), said).all())

    if db.dialect == "sqlite":  # it holds every text
        assert await db.read(look) == 0
        return
    with pytest.raises(InvalidRequest, match="NUL"):
        await db.read(look)
    gate = _Gate(db)
    writes = [asyncio.ensure_future(db.write(fn)) for fn in (_insert(1), look, _insert(2))]
    await asyncio.sleep(0)
    gate.open()
    one, refused, two = await asyncio.gather(*writes, return_exceptions=True)
    assert (one, two, type(refused)) == (1, 2, InvalidRequest)
    assert await db.read(_things) == [1, 2]
    with pytest.raises(InvalidRequest, match="NUL"):
        await db.write(look)


async def test_a_cancelled_caller_loses_no_write(db: Database) -> None:
    gate = _Gate(db)
    waiting = asyncio.create_task(db.write(_insert(7)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.open()
    await db.write(_insert(8))
    assert await db.read(_things) == [7, 8]


def test_a_caller_whose_loop_is_gone_loses_no_write(db: Database) -> None:
    gate = _Gate(db)

    async def leave() -> None:
        task = asyncio.create_task(db.write(_insert(3)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    gate.open()
    db.write_sync(_insert(4))
    assert db.read_sync(_things) == [3, 4]


def test_threads_write_without_a_loop(db: Database) -> None:
    threads = [threading.Thread(target=db.write_sync, args=(_insert(n),)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.read_sync(_things) == list(range(20))


def test_a_write_inside_a_write_is_an_error_and_not_a_standstill(db: Database) -> None:
    with pytest.raises(RuntimeError, match="wait for itself"):
        db.write_sync(lambda _connection: db.write_sync(_insert(1)))


def test_closing_commits_what_is_queued_and_refuses_what_comes_later(database_url: str) -> None:
    first = Database.open(database_url)
    first.write_sync(lambda connection: connection.execute(text(_TABLE)) and None)
    queued = [first.post(_insert(n)) for n in range(100)]
    first.close()
    assert all(future.done() for future in queued)
    with pytest.raises(Unavailable):
        first.write_sync(_insert(1000))
    second = Database.open(database_url)
    assert second.read_sync(_things) == list(range(100))
    second.close()


def test_a_reader_cannot_write(db: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)read-?only|readonly"):
        db.read_sync(_insert(1))
    db.write_sync(_insert(1))


def test_a_read_is_one_snapshot(db: Database) -> None:
    def twice(connection: Connection) -> tuple[list[int], list[int]]:
        before = _things(connection)
        db.write_sync(_insert(9))
        return before, _things(connection)

    assert db.read_sync(twice) == ([], [])
    assert db.read_sync(_things) == [9]


def test_two_programs_write_the_same_database(db: Database, database_url: str) -> None:
    other = Database.open(database_url)
    futures = [where.post(_insert(n)) for n in range(100) for where in ((db, other)[n % 2],)]
    assert sorted(future.result(30) for future in futures) == list(range(100))
    other.close()


def test_the_writer_opens_its_connection_again(database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("a file's connection does not break")

    def end(connection: Connection) -> None:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(Exception, match=r"(?i)terminat|closed|lost|Unavailable"):
        database.write_sync(end)
    assert database.write_sync(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1


def _sql(statement: str) -> Callable[[Connection], None]:
    def run(connection: Connection) -> None:
        connection.execute(text(statement))

    return run


async def test_a_write_beside_another_process_waits_in_the_thread_and_not_in_the_loop(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path / 'shared.db'}")
    other = sqlite3.connect(tmp_path / "shared.db", isolation_level=None)
    try:
        await db.write(_sql(_TABLE))
        other.execute("BEGIN IMMEDIATE")
        write = asyncio.ensure_future(db.write(_insert(1)))
        for _ in range(50):
            await asyncio.sleep(0)  # the loop goes on turning while the other process holds the lock
        assert not write.done()
        other.execute("COMMIT")
        assert await write == 1
        assert await db.read(_things) == [1]
    finally:
        other.close()
        db.close()


async def test_the_log_is_moved_into_the_file_under_steady_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_CHECKPOINT_JOBS", 50)
    db = Database.open(f"sqlite:///{tmp_path / 'busy.db'}")
    fill = _sql("INSERT INTO t VALUES (hex(randomblob(2000)))")
    try:
        await db.write(_sql("CREATE TABLE t (text TEXT)"))
        for _ in range(40):
            await asyncio.gather(*(db.write(fill) for _ in range(10)))
        for _ in range(2):  # what was asked of the thread before is done when the second is
            await asyncio.to_thread(db.write_sync, fill)
        size = (tmp_path / "busy.db").stat().st_size
    finally:
        db.close()
    assert size > 400_000, "nothing was moved out of the log before the end"
