"""The archive's outside: a tar file of plain files, which any tar can list, written and read as a stream.

The reader is our own and takes exactly what the writer writes: regular files, with names of a few fixed shapes, no
links, devices, folders, sparse files or extended headers. So nothing in an archive names a path on this machine, and
nothing in it is larger than the bytes that are there.
Layout of a header: POSIX.1-1988 ustar, with GNU's base-256 sizes for members over 8 GiB.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from typing import Protocol

from dayspring.core.errors import Refused

__all__ = ["ArchiveReader", "ArchiveWriter", "Readable", "Writable", "damaged", "is_name"]

_BLOCK = 512
_CHUNK_BYTES = 1 << 20
_NAME = re.compile(
    r"header\.json|manifest\.json|manifest\.sha256"
    r"|(tables|jobs)/[a-z][a-z0-9_]{0,62}\.jsonl\.gz"
    r"|work/[a-z]{1,20}/[a-z0-9_]{1,40}/[a-z0-9][a-z0-9.-]{0,30}"
    r"|home/([A-Za-z0-9_][A-Za-z0-9_.-]{0,40}/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}"
    r"|blobs/[0-9a-f]{64}"
)
_LONGEST_NAME = 100


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class ArchiveWriter:
    def __init__(self, stream: Writable) -> None:
        self._stream = stream

    def add(self, name: str, size: int, chunks: Iterable[bytes]) -> str:
        """Writes one member of exactly `size` bytes, and returns its SHA-256. Raises Refused for another size."""
        if not is_name(name):
            raise Refused(file=name, rule="a backup has no place for a name like it", remedy="Rename or move it.")
        head = tarfile.TarInfo(name)
        head.size, head.mode = size, 0o600
        self._stream.write(head.tobuf(tarfile.GNU_FORMAT))
        digest, left = hashlib.sha256(), size
        for chunk in chunks:
            left -= len(chunk)
            digest.update(chunk)
            self._stream.write(chunk)
        if left:
            raise Refused(file=name, rule="it changed while it was read", remedy="Make the backup again.")
        self._stream.write(bytes(-size % _BLOCK))
        return digest.hexdigest()

    def close(self) -> None:
        self._stream.write(bytes(2 * _BLOCK))


class ArchiveReader:
    """Goes through the members once. Raises Refused for whatever the writer would not have written."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._left = 0
        self._padding = 0
        self._digest = hashlib.sha256()
        self.read_bytes = 0

    def members(self) -> Iterator[tuple[str, int]]:
        """(name, size) of each. Read it by `chunks` before the next is asked for, or it is skipped."""
        while True:
            for _ in self.chunks():
                pass
            self._zeros(self._padding)
            head = self._exactly(_BLOCK)
            if head == bytes(_BLOCK):
                self._zeros(_BLOCK)
                if self._read(1):
                    raise damaged("there is something after its end")
                return
            name, self._left = _head(head)
            self._padding = -self._left % _BLOCK
            self._digest = hashlib.sha256()
            yield name, self._left

    def chunks(self) -> Iterator[bytes]:
        """The member's bytes."""
        while self._left:
            chunk = self._read(min(self._left, _CHUNK_BYTES))
            if not chunk:
                raise damaged("it ends early")
            self._left -= len(chunk)
            self._digest.update(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """Of the member's bytes that were read."""
        return self._digest.hexdigest()

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.read_bytes += len(data)
        return data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._read(size - len(data))
            if not more:
                raise damaged("it ends early")
            data += more
        return data

    def _zeros(self, size: int) -> None:
        if self._exactly(size) != bytes(size):
            raise damaged("there is something between its files")


def is_name(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def _head(block: bytes) -> tuple[str, int]:
    """Name and size. What the writer does not write is not there: compared as a whole, not field by field."""
    name = block[:_LONGEST_NAME].rstrip(b"\0").decode("ascii", "replace")
    if not is_name(name):
        raise damaged("it holds a name that no backup has")
    try:
        size = tarfile.TarInfo.frombuf(block, "ascii", "strict").size
    except (tarfile.HeaderError, UnicodeDecodeError):
        raise damaged("an entry's header is not readable") from None
    head = tarfile.TarInfo(name)
    head.size, head.mode = size, 0o600
    if size < 0 or head.tobuf(tarfile.GNU_FORMAT) != block:
        raise damaged(f"the entry {name!r} is not a plain file as a backup has them")
    return name, size


def damaged(what: str) -> Refused:
    return Refused(file="the backup", rule=what, remedy="It is damaged or none: use another one.")
