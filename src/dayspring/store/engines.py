"""How a database is opened: SQLite by the standard library's driver, PostgreSQL by psycopg 3.

Every SQLite connection is in autocommit mode towards SQLAlchemy, so that `BEGIN` is written by us: IMMEDIATE for the
writer (a transaction that is going to write never has to upgrade its lock), plain for readers (one snapshot for a whole
read). What it does not do: migrate. See `migrate`.
"""

import sqlite3
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from dayspring.core.errors import InvalidRequest, Unavailable

__all__ = ["BUSY_TIMEOUT_S", "Synchronous", "as_refusal", "is_sqlite", "make_engine"]

BUSY_TIMEOUT_S = 10.0
"""How long a SQLite connection waits for another process's transaction."""

_CHECKPOINT_PAGES = 4000
"""Pages (4 KiB) of write-ahead log after which a commit moves them into the database file."""

Synchronous = Literal["NORMAL", "FULL"]


def is_sqlite(url: str) -> bool:
    """Whether the URL names a SQLite file. Raises InvalidRequest for a URL of neither database."""
    try:
        name = make_url(url).get_backend_name()
    except ArgumentError:
        name = ""
    if name not in {"sqlite", "postgresql"}:
        raise InvalidRequest(
            "The database URL is neither sqlite:///FILE nor postgresql+psycopg://USER@HOST/NAME. "
            "Correct DAYSPRING_DATABASE_URL."
        )
    return name == "sqlite"


def as_refusal(error: BaseException) -> BaseException:
    """The error, or a refusal where it is a text of the caller's that PostgreSQL does not hold: one with a NUL."""
    cause = getattr(error, "orig", None) or error
    if type(cause).__name__ == "DataError" and "NUL (0x00)" in str(cause):
        return InvalidRequest("A text in it has a NUL character, which cannot be kept or looked up. Leave it out.")
    return error


def make_engine(url: str, *, synchronous: Synchronous = "NORMAL", readonly: bool = False, size: int = 1) -> Engine:
    """An engine of at most `size` connections. Raises InvalidRequest for a URL that cannot be served."""
    if is_sqlite(url):
        return _sqlite_engine(url, synchronous, readonly, size)
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if readonly else {}
    try:
        return create_engine(
            parsed,
            pool_size=size,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"application_name": "dayspring", "connect_timeout": 10},
            execution_options={"postgresql_readonly": True} if readonly else {},
            **options,
        )
    except ModuleNotFoundError:
        missing = Unavailable(
            "PostgreSQL needs the driver psycopg, which is not installed", "Install dayspring[postgres]."
        )
        raise missing from None


def _sqlite_engine(url: str, synchronous: Synchronous, readonly: bool, size: int) -> Engine:
    parsed = make_url(url).set(drivername="sqlite+pysqlite")
    if not parsed.database or parsed.database == ":memory:":
        raise InvalidRequest("A database in memory cannot be shared by threads. Give sqlite:/// a file's path.")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(
        parsed,
        pool_size=size,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_TIMEOUT_S, "cached_statements": 512, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        cursor.execute("PRAGMA journal_size_limit = 67108864")
        if readonly:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    return engine
