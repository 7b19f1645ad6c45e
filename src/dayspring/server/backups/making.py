"""One file with everything an installation is, made beside its running server.

What holds: all tables come from one snapshot, which blocks no writer; every stored file that the snapshot refers to is
in it, kept by a second name until it is written, whoever deletes it meanwhile, and its content is checked on the way;
the target appears whole or not at all. The jobs' own database is read first, then what they have half done, then the
snapshot: so a restored job may do a step again, which costs nobody twice, and never misses what a step did.
What it does not do: hold logs, uploads under way, or, when asked not to, the files of models that can be fetched again.
"""

import gzip
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
from sqlalchemy import Connection, String, column, select, table

from dayspring import __version__
from dayspring.blobs.disk import DiskBlobs
from dayspring.core.errors import Conflict, NotFound, Unavailable
from dayspring.core.settings import Settings
from dayspring.jobs.durable import SCHEMA as JOBS_SCHEMA
from dayspring.server.backups.archive import ArchiveWriter, is_name
from dayspring.server.backups.manifest import FORMAT, NO_BACKUP, Entry, Header, Manifest, Progress
from dayspring.server.backups.sealed import Sealer
from dayspring.store import migrate
from dayspring.store.database import Database
from dayspring.store.dump import dump_table, tables_of
from dayspring.store.references import blobs_by_column

__all__ = ["make_backup"]

_ORDER = ("home", "work", "jobs", "tables", "blobs")
"""Of what is inside; within each, the order in which it was taken, which for tables is that of filling them."""
_CHUNK_BYTES = 1 << 20
_LARGEST_HOME_FILE = 1 << 20
_WORK = ("batches",)
"""Folders with a folder for each job under way, of files that are added and appended to."""
_NOT_HOME = {"blobs", "models", "scratch", "uploads", "logs", *_WORK}
"""Folders that are in it by other ways, or not at all."""
_NOT_HOME_SUFFIXES = (".log", ".lock", ".db", ".db-wal", ".db-shm")


def make_backup(
    settings: Settings, target: Path, *, models: bool = True, passphrase: str = "", progress: Progress
) -> Manifest:
    """Writes the backup to `target`, which must not exist. With a passphrase it is encrypted.

    Raises NotFound where there is no installation, Conflict for a target that is there or a database that an upgrade
    has changed meanwhile, Unavailable for a stored file
    that is missing or damaged, or a disk that is full.
    """
    if target.exists():
        raise Conflict(f"There is a file {str(target)!r} already", "Name another, or remove it.")
    url = settings.effective_database_url
    if not settings.database_url and not (settings.home / "dayspring.db").exists():
        raise NotFound("installation in", str(settings.home), "Name its data folder with --home.")
    revision = migrate.current(url)
    if revision is None:
        raise NotFound("installation in", str(settings.home), "The database is empty.")
    part = target.with_name(f".{target.name}.part")
    scratch = settings.home / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    spool = Path(tempfile.mkdtemp(prefix="backup-", dir=scratch))
    try:
        with _opened(url) as db:
            header = Header(FORMAT, __version__, revision, time.time_ns(), db.dialect, models)
            taken = _Snapshot(settings, spool, header, progress).take(db)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            manifest = _write_all(stream, passphrase, header, taken, progress)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(target)
    except OSError as error:
        raise Unavailable(f"The backup could not be written ({error.strerror})", "Choose another place.") from None
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(spool, ignore_errors=True)
    return manifest


class _Taken(msgspec.Struct):
    """What goes into the archive, all of it in files that nobody changes."""

    files: dict[str, Path]
    """By the name inside; tables in the order of filling them."""
    rows: dict[str, int]
    left_out: list[str]
    skipped: list[str]


class _Snapshot:
    def __init__(self, settings: Settings, spool: Path, header: Header, progress: Progress) -> None:
        self._settings = settings
        self._spool = spool
        self._header = header
        self._progress = progress
        self._blobs = DiskBlobs(settings.home / "blobs")
        self._taken = _Taken({}, {}, [], [])

    def take(self, db: Database) -> _Taken:
        jobs = self._settings.home / "jobs.db"
        if db.dialect == "postgresql":
            db.read_sync(lambda connection: self._tables(connection, "jobs", JOBS_SCHEMA))
        elif jobs.exists():
            with _opened(f"sqlite:///{jobs}") as beside:
                beside.read_sync(lambda connection: self._tables(connection, "jobs", None))
        self._work()
        with ExitStack() as keeping:
            keeping.enter_context(self._blobs.keeping())
            db.read_sync(lambda connection: self._whole(connection, keeping))
        self._home_files()
        return self._taken

    def _whole(self, connection: Connection, keeping: ExitStack) -> None:
        marks = select(column("version_num", String)).select_from(table("alembic_version"))
        if connection.execute(marks).scalar_one() != self._header.revision:
            raise Conflict(
                "The database was brought up to a newer release meanwhile", "Make the backup again, with that release."
            )
        self._link(connection)
        keeping.close()  # the second names keep them now
        self._tables(connection, "tables", None)

    def _link(self, connection: Connection) -> None:
        """A second name for each stored file that is to be in it."""
        digests = {digest: place for place, found in blobs_by_column(connection).items() for digest in found}
        left_out = set() if self._header.models else _fetched_models_only(connection)
        folder = Path(tempfile.mkdtemp(prefix="blobs-", dir=self._spool))
        for digest in sorted(digests.keys() - left_out):
            try:
                self._blobs.link(digest, folder / digest)
            except NotFound:
                where = ".".join(digests[digest])
                raise Unavailable(
                    f"The stored file {digest}, which {where} refers to, is missing",
                    "Remove what it belongs to (a model, a file), then make the backup again.",
                ) from None
            self._taken.files[f"blobs/{digest}"] = folder / digest
        self._taken.left_out = sorted(left_out)

    def _tables(self, connection: Connection, folder: str, schema: str | None) -> None:
        for found in tables_of(connection, schema, NO_BACKUP):
            name = f"{folder}/{found.name}.jsonl.gz"
            place = self._spool / name.replace("/", "-")
            with gzip.open(place, "wb", compresslevel=3) as stream:
                count = -1  # the first line names the columns
                for count, line in enumerate(dump_table(connection, found)):  # noqa: B007
                    stream.write(line)
            self._taken.files[name] = place
            self._taken.rows[name] = count
            self._progress("tables", 0, 0)

    def _work(self) -> None:
        """What jobs have half done. A file that is being appended to is taken as it is: its reader knows torn ends."""
        for room in _WORK:
            for path in sorted((self._settings.home / room).glob("*/*")):
                name = f"work/{room}/{path.parent.name}/{path.name}"
                if is_name(name) and path.is_file():
                    self._copy(path, name)

    def _copy(self, path: Path, name: str) -> None:
        copy = self._spool / f"file-{len(self._taken.files)}"
        with suppress(FileNotFoundError):  # gone since
            shutil.copyfile(path, copy)
            self._taken.files[name] = copy

    def _home_files(self) -> None:
        """Keys and certificates: whatever small files lie in the data folder, so that none is forgotten."""
        home = self._settings.home
        for path in sorted(home.glob("*")) + sorted(home.glob("*/*")):
            inside = path.relative_to(home)
            if inside.parts[0] in _NOT_HOME or inside.name.startswith(".") or path.name.endswith(_NOT_HOME_SUFFIXES):
                continue
            if path.is_dir() and not path.is_symlink() and len(inside.parts) == 1:
                continue
            name = f"home/{inside.as_posix()}"
            if not path.is_file() or path.is_symlink() or path.stat().st_size > _LARGEST_HOME_FILE or not is_name(name):
                self._taken.skipped.append(inside.as_posix())
                continue
            self._copy(path, name)


def _fetched_models_only(connection: Connection) -> set[str]:
    """Digests that nothing refers to but models whose source is not a file of this machine."""
    files, models = (
        table("model_files", column("model_id"), column("sha256")),
        table("models", column("id"), column("source")),
    )
    rows = connection.execute(
        select(files.c.sha256, models.c.source).join_from(files, models, models.c.id == files.c.model_id)
    ).all()
    local = {row.sha256 for row in rows if row.source.startswith("file:")}
    others = {
        digest for place, found in blobs_by_column(connection).items() if place[0] != "model_files" for digest in found
    }
    return {row.sha256 for row in rows} - local - others


def _write_all(stream: BinaryIO, passphrase: str, header: Header, taken: _Taken, progress: Progress) -> Manifest:
    sealer = Sealer(stream, passphrase) if passphrase else None
    writer = ArchiveWriter(sealer or stream)
    entries: dict[str, Entry] = {}

    def add(name: str, content: bytes) -> str:
        return writer.add(name, len(content), (content,))

    head = msgspec.json.encode(header)
    entries["header.json"] = Entry(len(head), add("header.json", head))
    total = sum(path.stat().st_size for path in taken.files.values())
    done = 0
    for name in sorted(taken.files, key=lambda each: _ORDER.index(each.partition("/")[0])):
        path = taken.files[name]
        size = path.stat().st_size
        digest = writer.add(name, size, _counted(path, name, done, total, progress))
        if name.startswith("blobs/") and not name.endswith(digest):
            raise Unavailable(
                f"The stored file {name[6:]} is damaged", "Remove what it belongs to, then make the backup again."
            )
        done += size
        entries[name] = Entry(size, digest, taken.rows.get(name))
    manifest = Manifest(header, entries, taken.left_out, taken.skipped)
    written = msgspec.json.encode(manifest)
    digest = add("manifest.json", written)
    add("manifest.sha256", digest.encode())
    writer.close()
    if sealer is not None:
        sealer.close()
    return manifest


def _counted(path: Path, name: str, done: int, total: int, progress: Progress) -> Iterator[bytes]:
    what = "files" if name.startswith("blobs/") else "tables"
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            done += len(chunk)
            progress(what, done, total)
            yield chunk


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    db = Database.open(url)
    try:
        yield db
    finally:
        db.close()
