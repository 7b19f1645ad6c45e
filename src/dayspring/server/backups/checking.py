"""Reading a backup through before anything is believed, let alone changed.

What holds: after `check_backup` every byte of the archive was read and hashed, every table's rows were counted and
parsed, and every stored file that a row refers to is in it or known to be left out.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

import msgspec

from dayspring.core.errors import DayspringError, InvalidRequest, NotFound
from dayspring.server.backups.archive import ArchiveReader, Readable, damaged
from dayspring.server.backups.manifest import FORMAT, Entry, Header, Manifest, Progress, table_of
from dayspring.server.backups.sealed import MAGIC, Opener
from dayspring.store.dump import LINE_BYTES
from dayspring.store.references import NOT_STORED

__all__ = ["check_backup", "lines_of", "opened_backup", "small"]

_SMALL_BYTES = 256 << 20
"""Largest manifest: some two million files."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIX = "sha256"


@contextmanager
def opened_backup(source: Path, passphrase: str) -> Iterator[ArchiveReader]:
    """The archive at its beginning. Raises NotFound; InvalidRequest for a passphrase that is missing or needless."""
    try:
        stream = source.open("rb")
    except OSError:
        raise NotFound("backup", str(source), "Check its path.") from None
    with stream:
        sealed = stream.read(len(MAGIC)) == MAGIC
        if sealed and not passphrase:
            raise InvalidRequest("The backup is encrypted. Give its passphrase with --passphrase-file.")
        if passphrase and not sealed:
            raise InvalidRequest("The backup is not encrypted. Leave the passphrase out.")
        content: Readable = stream
        if sealed:
            content = Opener(stream, passphrase)
        else:
            stream.seek(0)
        yield ArchiveReader(content)


def check_backup(source: Path, passphrase: str, progress: Progress) -> Manifest:
    """Reads it all. Raises Refused for anything that is not a whole and sound backup that this program can read."""
    size = source.stat().st_size if source.is_file() else 0
    try:
        with opened_backup(source, passphrase) as archive:
            return _check(archive, lambda done: progress("checked", done, size))
    except DayspringError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile, RecursionError):
        raise damaged("a file in it cannot be read") from None


def _check(archive: ArchiveReader, done: Any) -> Manifest:
    seen: dict[str, Entry] = {}
    referred: set[str] = set()
    manifest: Manifest | None = None
    ended = False
    for name, size in archive.members():
        if ended or name in seen:
            raise damaged(f"{name!r} is in it twice, or after its end")
        rows = None
        if name == "manifest.json":
            manifest = msgspec.json.decode(small(archive, size), type=Manifest)
        elif name == "manifest.sha256":
            ended = small(archive, size).decode() == seen["manifest.json"].sha256 if "manifest.json" in seen else False
            if not ended:
                raise damaged("its list of contents is not the one that was written")
        elif name.startswith(("tables/", "jobs/")):
            rows = _check_rows(name, lines_of(archive), referred)
        elif name == "header.json":
            _check_header(small(archive, size), seen)
        for _ in archive.chunks():
            done(archive.read_bytes)
        seen[name] = Entry(size, archive.sha256, rows)
    if manifest is None or not ended:
        raise damaged("it ends early")
    _compare(manifest, seen, referred)
    return manifest


def _check_header(content: bytes, seen: dict[str, Entry]) -> None:
    header = msgspec.json.decode(content, type=Header)
    if seen:
        raise damaged("it does not begin with its header")
    if header.format != FORMAT:
        raise damaged(f"it has format {header.format}, and this program reads {FORMAT}")


def _compare(manifest: Manifest, seen: dict[str, Entry], referred: set[str]) -> None:
    for name in ("manifest.json", "manifest.sha256"):
        seen.pop(name, None)
    if manifest.entries != seen or "header.json" not in seen:
        other = next(
            name
            for name in {**seen, **manifest.entries, "header.json": 0}
            if seen.get(name) != manifest.entries.get(name) or name not in seen
        )
        raise damaged(f"{other!r} is not what was written")
    for name, entry in seen.items():
        if name.startswith("blobs/") and name != f"blobs/{entry.sha256}":
            raise damaged(f"{name!r} has another content")
    missing = {digest for digest in referred if f"blobs/{digest}" not in seen} - set(manifest.left_out)
    if missing:
        raise damaged(f"the stored file {min(missing)} is not in it")


def _check_rows(name: str, lines: Iterator[bytes], referred: set[str]) -> int:
    """How many rows; adds the digests of stored files that they refer to."""
    table, count = table_of(name), 0
    columns = msgspec.json.decode(next(lines, b""), type=list[str])
    digests = [
        index
        for index, column in enumerate(columns)
        if name.startswith("tables/") and column.endswith(_SUFFIX) and (table, column) not in NOT_STORED
    ]
    for line in lines:
        row = msgspec.json.decode(line, type=list[Any])
        if len(row) != len(columns):
            raise damaged(f"a row of {table!r} has another length than its table")
        referred.update(row[index] for index in digests if row[index])
        count += 1
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in referred):
        raise damaged(f"a row of {table!r} refers to no stored file")
    return count


def small(archive: ArchiveReader, size: int) -> bytes:
    """A whole member, where it is one that fits in memory."""
    if size > _SMALL_BYTES:
        raise damaged("its list of contents is too long")
    return b"".join(archive.chunks())


def lines_of(archive: ArchiveReader) -> Iterator[bytes]:
    """The lines of a compressed member, one in memory at a time."""
    with gzip.GzipFile(fileobj=BufferedReader(_Member(archive.chunks()), 1 << 16)) as stream:
        while line := stream.readline(LINE_BYTES):
            if not line.endswith(b"\n"):
                raise damaged("a row in it is too long or cut off")
            yield line


class _Member(RawIOBase):
    """A member's chunks as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
