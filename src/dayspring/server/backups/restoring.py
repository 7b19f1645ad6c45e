"""An installation out of a backup, in a data folder and a database that are empty.

What holds: nothing is changed before the whole backup was read and found sound and the target empty; a restore that
fails leaves the target empty again, and one that is killed leaves a mark, with which no server starts and the next
restore begins anew. The tables are made as they were, filled, and then brought to this program's revision, so an older
backup comes forward and SQLite and PostgreSQL take each other's.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Table, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from dayspring.blobs.disk import DiskBlobs
from dayspring.core.errors import Conflict, NotFound, Unavailable
from dayspring.core.settings import Settings
from dayspring.jobs.durable import SCHEMA as JOBS_SCHEMA
from dayspring.jobs.durable import make_tables
from dayspring.ledger.verification import find_differences
from dayspring.server.backups.archive import ArchiveReader, damaged
from dayspring.server.backups.checking import check_backup, lines_of, opened_backup
from dayspring.server.backups.manifest import Manifest, Progress, table_of
from dayspring.server.house import RESTORING, House, prepare_home
from dayspring.store import failpoints, migrate
from dayspring.store.downloads import move_downloads
from dayspring.store.dump import continue_counting, load_table, tables_of
from dayspring.store.engines import is_sqlite, make_engine

__all__ = ["Restored", "restore_backup"]

_NEEDLESS = {"logs", "lost+found"}
"""What may lie in an empty data folder: the second in each that is a disk of its own."""


class Restored(msgspec.Struct, frozen=True):
    manifest: Manifest
    waiting: list[str]
    """Models whose files are not here; the server fetches them again when it starts."""


def restore_backup(settings: Settings, source: Path, *, passphrase: str = "", progress: Progress) -> Restored:
    """Fills the data folder and the database of `settings`.

    Raises Conflict for a target that is not empty or a backup of a newer program, Refused for a backup that is not
    sound, NotFound for none, Unavailable for a disk or database that does not take it.
    """
    if not source.is_file():
        raise NotFound("backup", str(source), "Check its path.")
    url = settings.effective_database_url
    begun = (settings.home / RESTORING).exists()
    if not begun:
        _check_empty(settings.home, url)
    manifest = check_backup(source, passphrase, progress)
    _check_fits(settings.home, manifest)
    prepare_home(settings.home)
    _empty(settings.home, url if begun else "")
    _check_empty(settings.home, url)
    mark = settings.home / RESTORING
    mark.write_text("A restore is under way, or did not end: run it again.\n", encoding="utf-8")
    try:
        _Filling(settings, manifest, progress).fill(source, passphrase)
    except BaseException:
        _empty(settings.home, url)
        mark.unlink(missing_ok=True)
        raise
    waiting = _finish(settings)
    mark.unlink()
    return Restored(manifest, waiting)


def _check_empty(home: Path, url: str) -> None:
    there = [path.name for path in home.iterdir() if path.name not in {*_NEEDLESS, RESTORING}] if home.exists() else []
    if there:
        raise Conflict(
            f"The data folder {str(home)!r} is not empty (it has {min(there)!r})",
            "Restore into another with --home, or empty it.",
        )
    if is_sqlite(url):
        path = make_url(url).database
        if path and Path(path).exists():
            raise Conflict(f"There is a database at {path!r} already", "Name another in DAYSPRING_DATABASE_URL.")
        return
    with _connected(url) as connection:
        tables = [*inspect(connection).get_table_names(), *inspect(connection).get_table_names(schema=JOBS_SCHEMA)]
        if set(tables) - {"alembic_version"}:
            raise Conflict(
                f"The database is not empty (it has the table {min(tables)!r})",
                "Name an empty one in DAYSPRING_DATABASE_URL.",
            )


def _check_fits(home: Path, manifest: Manifest) -> None:
    if not migrate.is_known(manifest.header.revision):
        raise Conflict(
            f"The backup was made by a newer Dayspring ({manifest.header.version})",
            "Install that version to restore it.",
        )
    folder = next(each for each in (home, *home.absolute().parents) if each.exists())
    free, needed = shutil.disk_usage(folder).free, manifest.size_bytes * 11 // 10
    if free < needed:
        raise Unavailable(
            f"The disk has {free >> 20} MiB free and the backup needs some {needed >> 20} MiB",
            "Make room, then try again.",
        )


def _empty(home: Path, url: str) -> None:
    """Takes away what a restore has put there; with a `url`, out of the database too."""
    for path in home.iterdir():
        if path.name in {RESTORING, "lost+found"}:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if url and is_sqlite(url):
        database = make_url(url).database or ""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
    elif url:
        migrate.downgrade(url)
        with _connected(url) as connection:
            connection.execute(text(f'DROP SCHEMA IF EXISTS "{JOBS_SCHEMA}" CASCADE'))
            connection.commit()


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise Unavailable(
            "The database did not take the backup", "Check DAYSPRING_DATABASE_URL, its server, its rights and its disk."
        ) from error
    finally:
        engine.dispose()


class _Place:
    """The tables of one database that are being filled."""

    def __init__(self, connection: Connection, schema: str | None) -> None:
        self._connection = connection
        self._tables: dict[str, Table] = {table.name: table for table in tables_of(connection, schema)}

    def load(self, name: str, lines: Iterator[bytes]) -> None:
        if name not in self._tables:
            if sum(1 for _ in lines) <= 1:
                return  # an empty one that the other database's kind has alone
            raise damaged(f"there is no table {name!r} in a database of its revision")
        load_table(self._connection, self._tables[name], lines)
        continue_counting(self._connection, self._tables[name])


class _Filling:
    """One pass over the archive."""

    def __init__(self, settings: Settings, manifest: Manifest, progress: Progress) -> None:
        self._settings = settings
        self._home = settings.home
        self._url = settings.effective_database_url
        self._manifest = manifest
        self._progress = progress
        self._sqlite = is_sqlite(self._url)
        self._blobs = DiskBlobs(self._home / "blobs")

    def fill(self, source: Path, passphrase: str) -> None:
        migrate.upgrade(self._url, self._manifest.header.revision)
        jobs_url = f"sqlite:///{self._home / 'jobs.db'}" if self._sqlite else self._url
        with_jobs = any(name.startswith("jobs/") for name in self._manifest.entries)
        if with_jobs:  # before our transaction, for PostgreSQL makes an index only when none is older
            make_tables(self._home, self._url)
        try:
            with ExitStack() as stack:
                main = stack.enter_context(_transaction(self._url))
                places = {"tables": _Place(main, None)}
                if with_jobs:
                    jobs = stack.enter_context(_transaction(jobs_url))
                    places["jobs"] = _Place(jobs, None if self._sqlite else JOBS_SCHEMA)
                self._members(stack.enter_context(opened_backup(source, passphrase)), places)
                _forget_servers(main, str(self._home))
                failpoints.hit("restore.before-commit")
        except OSError as error:
            raise Unavailable(
                f"The disk did not take the backup ({error.strerror})", "Make room, then try again."
            ) from None

    def _members(self, archive: ArchiveReader, places: "dict[str, _Place]") -> None:
        for name, _ in archive.members():
            folder, _, rest = name.partition("/")
            if folder in places:
                self._progress("tables", archive.read_bytes, self._manifest.size_bytes)
                places[folder].load(table_of(name), lines_of(archive))
            elif folder == "blobs":
                self._blobs.put(self._counted(archive), rest)
            elif folder in {"home", "work"}:
                self._file(archive, self._home / rest)
            for _ in archive.chunks():  # what nobody needs is read all the same, to be hashed
                pass
            entry = self._manifest.entries.get(name)
            if entry is not None and entry.sha256 != archive.sha256:
                raise damaged(f"{name!r} changed while it was restored")
        failpoints.hit("restore.filled")

    def _counted(self, archive: ArchiveReader) -> Iterator[bytes]:
        for chunk in archive.chunks():
            self._progress("files", archive.read_bytes, self._manifest.size_bytes)
            yield chunk

    def _file(self, archive: ArchiveReader, path: Path) -> None:
        """One of the checked names: below the data folder, whatever it is."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in archive.chunks():
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())


@contextmanager
def _transaction(url: str) -> Iterator[Connection]:
    """One for the whole filling, in which SQLite does not yet look at references."""
    with _connected(url) as connection:
        driver: Any = connection.connection.driver_connection
        if is_sqlite(url):
            driver.execute("PRAGMA foreign_keys = OFF")
            driver.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction():
            connection.commit()
        driver.commit()


def _forget_servers(connection: Connection, home: str) -> None:
    """None of the backup's servers runs here: what they held is let go when the first one starts."""
    connection.execute(text("UPDATE server_instances SET home = :home, heartbeat_at_ns = 0"), {"home": home})


def _finish(settings: Settings) -> list[str]:
    """Brings the tables to this program's revision, puts the models in place, and checks the books."""
    migrate.upgrade(settings.effective_database_url)
    with House.open(settings, restoring=True) as house:
        house.db.write_sync(lambda connection: move_downloads(connection, str(settings.home)))
        waiting = house.hub.relink()
        differences = house.db.read_sync(find_differences)
    if differences:
        first = differences[0]
        with suppress(FileNotFoundError):
            (settings.home / RESTORING).unlink()
        raise Conflict(
            f"The backup is restored, and its books do not agree with themselves ({first.what} {first.id}: "
            f"{first.found}, should be {first.expected}; {len(differences)} in all)",
            "They did not when it was made. 'dayspring doctor' lists them.",
        )
    return waiting
