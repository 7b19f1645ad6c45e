"""Brings a database's schema to the one this program was written for.

What holds: an upgrade is one transaction under a lock, so of several servers that start at once one migrates and the
others find it done, and one that fails leaves the database as it was. A database that a newer program has migrated is
refused, not touched. Revisions are named by date and slug and packaged beside this file.
What it does not do: declare tables (each room does, on `schema.metadata`), or move data between databases.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from dayspring.core.errors import Conflict, Unavailable
from dayspring.store import failpoints
from dayspring.store.engines import is_sqlite, make_engine
from dayspring.store.schema import metadata

__all__ = ["check", "current", "downgrade", "head", "is_known", "revise", "upgrade"]

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x64617973
"""Of PostgreSQL's advisory locks, ours while migrating."""


def upgrade(url: str, revision: str = "") -> str:
    """Migrates to the newest revision, or to this one, and returns it. Does nothing, quickly, where it is there.

    Raises Conflict for a database of a newer program, Unavailable where it cannot be opened.
    """
    wanted = revision or head()
    if current(url) != wanted:
        with _transaction(url) as connection:
            command.upgrade(_config(connection), wanted)
            failpoints.hit("migrate.before-commit")
    return wanted


def is_known(revision: str) -> bool:
    """Whether this program can bring a database of this revision forward."""
    return revision in {script.revision for script in ScriptDirectory(str(_FOLDER)).walk_revisions()}


def downgrade(url: str, revision: str = "base") -> None:
    """Goes back to a revision, losing what later ones had added; `base` empties the database."""
    with _transaction(url) as connection:
        command.downgrade(_config(connection), revision)


def current(url: str) -> str | None:
    """The database's revision; None for an empty one. Raises Conflict for one this program does not know."""
    with _transaction(url, lock=False) as connection:
        return _known_revision(connection)


def head() -> str:
    """The newest revision this program has."""
    found = ScriptDirectory(str(_FOLDER)).get_current_head()
    return found or "base"


def check(url: str) -> list[Any]:
    """What differs between the database and the tables declared so far in this process; empty when nothing does."""
    with _transaction(url, lock=False) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def revise(url: str, revision: str, message: str) -> None:
    """For developers: writes the migration from the database at `url` to the tables declared in this process."""
    with _transaction(url) as connection:
        command.revision(_config(connection), message=message, rev_id=revision, autogenerate=True)


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("file_template", "%%(rev)s")
    return config


@contextmanager
def _transaction(url: str, *, lock: bool = True) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            if not lock:
                yield connection
                return
            if is_sqlite(url):
                # A changed table is made anew under its name; references to it are checked again afterwards.
                driver.execute("PRAGMA foreign_keys = OFF")
                driver.execute("BEGIN IMMEDIATE")
            else:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            _known_revision(connection)
            yield connection
            connection.commit()
            driver.commit()
    except DBAPIError as error:
        raise Unavailable(
            "The database cannot be opened or migrated",
            "Check DAYSPRING_DATABASE_URL, that its server runs, that the user owns the tables and that the disk is "
            "not full.",
        ) from error
    finally:
        engine.dispose()


def _known_revision(connection: Connection) -> str | None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and not is_known(found):
        raise Conflict(
            f"The database was migrated by a newer Dayspring (revision {found}; this one knows up to {head()})",
            "Install that version, or restore a backup made before it.",
        )
    return found
