"""Taking files out of zip and tar archives that may be hostile.

What holds: limits are kept on the bytes that really come out, not on what the archive declares; a name that leaves its
folder, a link, a device, a duplicate, an encrypted or overlapping entry refuses the whole archive before anything is
taken out. What it does not do: write to a path named by the archive. Callers give each member its place.
"""

import bz2
import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Protocol, cast

import msgspec

from dayspring.core.errors import Refused
from dayspring.hub.formats.names import check_name

__all__ = ["Archive", "Limits", "Member", "open_archive", "zip_members"]

CHUNK_BYTES = 1 << 20
_REMEDY = "Take the model from a source that packs it plainly."


class Limits(msgspec.Struct, frozen=True):
    """What an archive may ask of us."""

    members: int = 20_000
    total_bytes: int = 512 << 30
    ratio: int = 300
    """Bytes out for each byte in, for one member of over 1 MiB."""


class Member(msgspec.Struct, frozen=True):
    name: str
    size_bytes: int
    """As declared; held to it when read."""


class Archive:
    """An open archive: its members, checked, and their content in chunks."""

    def __init__(self, file: str, members: list[Member], opener: "_Opener", limits: Limits) -> None:
        self.file = file
        self.members = members
        self._opener = opener
        self._limits = limits

    def read(self, name: str) -> Iterator[bytes]:
        """The member in chunks of at most 1 MiB. Raises Refused when it is not what the archive declares."""
        member = next((member for member in self.members if member.name == name), None)
        if member is None:
            raise Refused(
                file=f"{self.file}: {name}", rule="it is not in the archive", remedy="Check the name after '#'."
            )
        count = 0
        packed = self._opener.packed_bytes(name)
        try:
            with self._opener.open(name) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    count += len(chunk)
                    if count > member.size_bytes:
                        raise self._refuse(name, f"it is larger than the {member.size_bytes} bytes it declares")
                    if count > CHUNK_BYTES and count > packed * self._limits.ratio:
                        raise self._refuse(name, f"it unpacks to over {self._limits.ratio} times its size")
                    yield chunk
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError):
            raise self._refuse(name, "it is damaged") from None
        if count != member.size_bytes:
            raise self._refuse(name, f"it has {count} bytes and declares {member.size_bytes}")

    def _refuse(self, name: str, rule: str) -> Refused:
        return Refused(file=f"{self.file}: {name}", rule=rule, remedy=_REMEDY)


class _Opener(Protocol):
    """How one kind of archive opens a member."""

    def open(self, name: str) -> IO[bytes]: ...

    def packed_bytes(self, name: str) -> int: ...


class _ZipOpener(_Opener):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def open(self, name: str) -> IO[bytes]:
        return self._archive.open(name)

    def packed_bytes(self, name: str) -> int:
        return self._archive.getinfo(name).compress_size


class _TarOpener(_Opener):
    def __init__(self, archive: tarfile.TarFile, packed: int) -> None:
        self._archive = archive
        self._packed = packed

    def open(self, name: str) -> IO[bytes]:
        stream = self._archive.extractfile(name)
        if stream is None:
            raise tarfile.TarError
        return stream

    def packed_bytes(self, name: str) -> int:
        return self._packed


@contextmanager
def open_archive(path: Path, file: str, limits: Limits = Limits()) -> Iterator[Archive]:  # noqa: B008 - frozen
    """The archive at `path`, called `file` in a refusal. Raises Refused for what is none or breaks a rule."""
    with path.open("rb") as stream:
        head = stream.read(6)
        stream.seek(0)
        if head.startswith(b"PK\x03\x04"):
            with _zip(stream, file) as archive:
                yield Archive(file, zip_members(archive, file, limits), _ZipOpener(archive), limits)
            return
        size = path.stat().st_size
        with _unpacked(stream, head) as plain, _tar(plain, file) as tar:
            yield Archive(file, _tar_members(tar, file, limits, size), _TarOpener(tar, size), limits)


@contextmanager
def _zip(stream: BinaryIO, file: str) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        raise Refused(file=file, rule="it is no readable zip", remedy="Fetch it again.") from None
    with archive:
        yield archive


def zip_members(archive: zipfile.ZipFile, file: str, limits: Limits = Limits()) -> list[Member]:  # noqa: B008 - frozen
    """The files in a zip, from its directory, after every rule that the directory alone can break."""
    entries = archive.infolist()
    if len(entries) > limits.members:
        raise Refused(file=file, rule=f"it has {len(entries)} members, over {limits.members}", remedy=_REMEDY)
    files = [entry for entry in entries if not entry.is_dir()]
    for entry in files:
        check_name(entry.filename, where=file)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        rule = ""
        if kind not in (0, stat.S_IFREG):
            rule = "it is a link or a device"
        elif entry.flag_bits & 0x1:
            rule = "it is encrypted"
        elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            rule = "it is packed by another method than deflate"
        if rule:
            raise Refused(file=f"{file}: {entry.filename}", rule=rule, remedy=_REMEDY)
    end = 0
    for entry in sorted(files, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise Refused(file=f"{file}: {entry.filename}", rule="its bytes belong to another member", remedy=_REMEDY)
        end = entry.header_offset + 30 + entry.compress_size
    return _checked([Member(entry.filename, entry.file_size) for entry in files], file, limits)


def _checked(members: list[Member], file: str, limits: Limits) -> list[Member]:
    """Duplicates and the sum of what is declared."""
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise Refused(file=file, rule="it has two members of one name", remedy=_REMEDY)
    total = sum(member.size_bytes for member in members)
    if total > limits.total_bytes:
        raise Refused(file=file, rule=f"it unpacks to {total} bytes, over {limits.total_bytes}", remedy=_REMEDY)
    return members


@contextmanager
def _unpacked(stream: BinaryIO, head: bytes) -> Iterator["_Metered"]:
    """The plain tar inside gzip, bzip2 or nothing. Not xz: its reader takes the memory that the file asks for."""
    if head.startswith(b"\x1f\x8b"):
        plain: IO[bytes] = cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    elif head.startswith(b"BZh"):
        plain = bz2.BZ2File(stream)
    else:
        plain = stream
    try:
        yield _Metered(plain)
    finally:
        plain.close()


class _Metered:
    """A reader that refuses one huge read, which is how a tar with a lying extended header fills the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 4 * CHUNK_BYTES:
            raise tarfile.ReadError("a header is too long")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


@contextmanager
def _tar(stream: _Metered, file: str) -> Iterator[tarfile.TarFile]:
    try:
        archive = tarfile.TarFile(fileobj=cast("IO[bytes]", stream), mode="r")
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, RecursionError):
        raise Refused(file=file, rule="it is no readable archive", remedy="Fetch it again.") from None
    with archive:
        yield archive


def _tar_members(archive: tarfile.TarFile, file: str, limits: Limits, packed: int) -> list[Member]:
    members: list[Member] = []
    total, count = 0, 0
    # What a gzip of this size can hold at most; a declared size beyond it is a lie that would be sought through.
    most = min(limits.total_bytes, max(packed, 1) * limits.ratio + (1 << 20))
    try:
        while entry := archive.next():
            count += 1
            total += entry.size
            if count > limits.members or total > most or entry.size < 0:
                raise Refused(file=file, rule=f"it declares {total} bytes in {count} members", remedy=_REMEDY)
            if entry.isdir():
                continue
            name = check_name(entry.name.removeprefix("./"), where=file)
            if not entry.isreg() or entry.issparse():
                raise Refused(file=f"{file}: {name}", rule="it is a link, a device or sparse", remedy=_REMEDY)
            entry.name = name
            members.append(Member(name, entry.size))
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, RecursionError):
        raise Refused(file=file, rule="it is damaged or cut short", remedy="Fetch it again.") from None
    return _checked(members, file, limits)
