"""Content-addressed files on one disk: `<root>/sha256/ab/cd/<digest>`, read-only once there.

What holds: a name is only ever bound to a whole file with that digest (temporary file, fsync, rename, fsync of the
folder); a reader is told of damage before it has the last chunk; a partial has one writer at a time, across processes;
nothing is let go between a file's arrival and the commit of the row that refers to it, where the caller is `keeping`.
What it does not do: quotas, encryption, or telling who refers to what (`collect` is given the references).
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

from dayspring.contracts.blobs import Collected
from dayspring.core.errors import Conflict, DayspringError, NotFound, Refused, Unavailable

__all__ = ["DiskBlobs", "DiskPartial", "hash_file"]

CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


def hash_file(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class DiskBlobs:
    """A `BlobStore` in the folder `root`, which is made if need be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._partials = root / "partial"
        for folder in (root / "sha256", self._incoming, self._partials):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def incoming(self) -> Path:
        """A folder on the same disk, for files that `adopt` will take."""
        return self._incoming

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise NotFound("stored file", digest, "A stored file is named by its SHA-256.")
        return self.root / "sha256" / digest[:2] / digest[2:4] / digest

    def has(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def hold(self, digest: str) -> bool:
        with self.keeping():
            try:
                os.utime(self._place(digest))
            except FileNotFoundError:
                return False
        return True

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    def path(self, digest: str) -> Path:
        place = self._place(digest)
        if not place.is_file():
            raise NotFound("stored file", digest, "Add the model again.")
        return place

    def put(self, chunks: Iterable[bytes], expected: str = "") -> str:
        handle, name = tempfile.mkstemp(dir=self._incoming)
        temporary = Path(name)
        digest = hashlib.sha256()
        try:
            with os.fdopen(handle, "wb") as stream:
                for chunk in chunks:
                    digest.update(chunk)
                    stream.write(chunk)
                _flush(stream)
            return self.bind(temporary, digest.hexdigest(), expected)
        finally:
            temporary.unlink(missing_ok=True)

    def adopt(self, file: Path, expected: str = "") -> str:
        with file.open("rb+") as stream:
            _flush(stream)
        return self.bind(file, hash_file(file), expected)

    def bind(self, file: Path, digest: str, expected: str = "", *, alike: bool = False) -> str:
        if expected and digest != expected:
            raise Refused(
                file=expected,
                rule=f"the content has SHA-256 {digest}, not the one that was promised",
                remedy="Fetch it again; if it stays so, the source was changed or tampered with.",
            )
        place = self._place(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        same = not alike and place.exists() and hash_file(place) == digest
        with self.keeping():
            if same and place.exists():
                # Kept, not replaced: what is linked to it goes on sharing it.
                file.unlink()
                os.utime(place)
                return digest
            file.chmod(0o444)
            file.replace(place)
            os.utime(place)
        _flush_folder(place.parent)
        return digest

    def read(self, digest: str) -> Iterator[bytes]:
        seen = hashlib.sha256()
        with self.path(digest).open("rb") as stream:
            held = stream.read(CHUNK_BYTES)
            seen.update(held)
            # One chunk is held back, so that damage is told before the caller has a whole file.
            while chunk := stream.read(CHUNK_BYTES):
                seen.update(chunk)
                yield held
                held = chunk
        if seen.hexdigest() != digest:
            raise _damaged(digest)
        if held:
            yield held

    def read_span(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        with self.path(digest).open("rb") as stream:
            stream.seek(start)
            while start < stop and (chunk := stream.read(min(CHUNK_BYTES, stop - start))):
                start += len(chunk)
                yield chunk

    def verify(self, digest: str) -> None:
        if hash_file(self.path(digest)) != digest:
            raise _damaged(digest)

    def link(self, digest: str, target: Path) -> None:
        place = self.path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(place)
        except FileExistsError:
            raise
        except OSError:
            # No hard links on this disk, or the name is on another one.
            shutil.copyfile(place, target)

    def partial(self, key: str) -> "DiskPartial":
        name = hashlib.sha256(key.encode()).hexdigest()
        return DiskPartial(self, self._partials / name)

    def keeping(self) -> contextlib.AbstractContextManager[None]:
        return self._lock(fcntl.LOCK_SH)

    def release(self, digests: Iterable[str], referenced: Callable[[], set[str]]) -> None:
        with self._lock(fcntl.LOCK_EX):
            for digest in set(digests) - referenced():
                self._place(digest).unlink(missing_ok=True)

    def collect(self, referenced: Callable[[], set[str]], grace_s: float) -> Collected:
        oldest = time.time() - grace_s
        count = freed = 0
        stored = list((self.root / "sha256").glob("*/*/*"))
        with self._lock(fcntl.LOCK_EX):
            # Asked here: a row may have come to refer to an old file, that was not stored again, a moment ago.
            wanted = referenced()
            left = [file for file in stored if file.name not in wanted]
            for file in (*left, *self._incoming.iterdir(), *self._partials.iterdir()):
                with contextlib.suppress(FileNotFoundError):
                    status = file.stat()
                    if status.st_mtime <= oldest and not _is_locked(file):
                        file.unlink()
                        count, freed = count + 1, freed + status.st_size
        return Collected(blobs=count, bytes=freed)

    @contextlib.contextmanager
    def _lock(self, how: int) -> Iterator[None]:
        """Shared by who keeps, exclusive for who lets go; across processes, and gone with its holder."""
        with (self.root / ".lock").open("ab") as lock:
            fcntl.flock(lock, how)
            yield


class DiskPartial:
    """`<name>` holds the bytes, `<name>.tag` where they come from. The lock dies with the process that holds it."""

    def __init__(self, blobs: DiskBlobs, file: Path) -> None:
        self._blobs = blobs
        self._file = file
        self._tag_file = file.with_suffix(".tag")
        self._stream = _open_locked(file)
        try:
            self._tag = self._tag_file.read_text("utf-8")
        except FileNotFoundError:
            self._tag = ""
        self._digest = hashlib.sha256()
        while chunk := self._stream.read(CHUNK_BYTES):
            self._digest.update(chunk)
        self._size = self._stream.tell()

    @property
    def size_bytes(self) -> int:
        return self._size

    @property
    def tag(self) -> str:
        return self._tag

    def restart(self, tag: str) -> None:
        # Bytes go first: a crash between the two steps leaves an empty file, never old bytes under a new tag.
        self._stream.seek(0)
        self._stream.truncate()
        self._digest = hashlib.sha256()
        self._size = 0
        fresh = self._tag_file.with_suffix(".tag.new")
        fresh.write_text(tag, "utf-8")
        fresh.replace(self._tag_file)
        self._tag = tag

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._size += len(data)

    def finish(self, expected: str = "") -> str:
        _flush(self._stream)
        digest = self._digest.hexdigest()
        try:
            self._blobs.bind(self._file, digest, expected)
        except DayspringError:
            self.restart("")
            raise
        self._tag_file.unlink(missing_ok=True)
        return digest

    def close(self) -> None:
        """Keep what was written and let another writer have it."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_locked(file: Path) -> BinaryIO:
    """Open for reading and writing, exclusively among processes and writers of this one."""
    while True:
        stream = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.stat().st_ino == os.fstat(stream.fileno()).st_ino:
                return stream
        except BlockingIOError:
            stream.close()
            raise Conflict("Another process is fetching the same file", "Wait for it to end, then try again.") from None
        except FileNotFoundError:
            pass
        # The holder before us renamed the file into the store between our open and our lock.
        stream.close()


def _is_locked(file: Path) -> bool:
    with file.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _flush(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(digest: str) -> Unavailable:
    return Unavailable(f"The stored file {digest} is damaged", "Remove the model that uses it and add it again.")
