"""Putting a planned file together: its parts fetched, taken out of their archives, joined and checked.

What holds: each part and the whole has the hash and size the plan promises, or nothing is kept but the partial
downloads. No archive names a path on this machine: members are streamed into the blob store.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from dayspring.contracts.blobs import BlobStore
from dayspring.core.errors import NotFound, Refused
from dayspring.hub.fetching.archives import CHUNK_BYTES, open_archive
from dayspring.hub.fetching.download import Downloader
from dayspring.hub.plan import Local, Part, PlannedFile, Remote

__all__ = ["Assembled", "Assembler"]

Report = Callable[[str, int, int], None]
"""Called with the name of what is being fetched, bytes done, and bytes in all (0: not known)."""


class Assembled(msgspec.Struct, frozen=True):
    files: dict[str, str]
    """Digest by path."""
    envelopes: frozenset[str]
    """Digests of archives that were fetched only for what is in them."""


class Assembler:
    """`scratch` is a folder for nested archives on their way through. `let_go` drops stored files that nothing refers
    to."""

    def __init__(
        self, downloader: Downloader, blobs: BlobStore, scratch: Path, *, let_go: Callable[[set[str]], None]
    ) -> None:
        self._let_go = let_go
        self._downloader = downloader
        self._blobs = blobs
        self._scratch = scratch

    async def assemble(self, files: tuple[PlannedFile, ...], report: Report) -> Assembled:
        """Every file as a blob. What is already there by its hash is not fetched again."""
        made: dict[str, str] = {}
        envelopes: set[str] = set()
        known: dict[str, Path] = {}
        for file in files:
            if file.sha256 and self._blobs.hold(file.sha256):
                made[file.path] = file.sha256
                continue
            for part in file.parts:
                if isinstance(part.origin, Remote) and part.origin.url not in known:
                    name = part.origin.url.split("?", 1)[0].rsplit("/", 1)[-1]
                    digest = await self._downloader.fetch(part.origin, partial(report, name))
                    known[part.origin.url] = self._blobs.path(digest)
                    envelopes.add(digest)
            made[file.path] = await asyncio.to_thread(self._join, file, known)
        return Assembled(made, frozenset(envelopes - set(made.values())))

    def _join(self, file: PlannedFile, known: dict[str, Path]) -> str:
        whole = file.parts[0]
        if len(file.parts) == 1 and not whole.members and isinstance(whole.origin, Remote):
            digest = known[whole.origin.url].name
            for promised in (file.sha256, whole.sha256):
                if promised and promised != digest:
                    raise _other(file.path, f"it has SHA-256 {digest}, not {promised}")
            return digest
        if file.size_bytes and sum(part.size_bytes for part in file.parts) not in (0, file.size_bytes):
            raise _other(file.path, "its parts do not add up to its size")
        digest = self._blobs.put(chunk for part in file.parts for chunk in self._part(file.path, part, known))
        if file.sha256 and digest != file.sha256:
            self._let_go({digest})
            raise _other(file.path, f"it has SHA-256 {digest}, not {file.sha256}")
        return digest

    def _part(self, name: str, part: Part, known: dict[str, Path]) -> Iterator[bytes]:
        """The bytes of one part, held to its hash and size."""
        path = Path(part.origin.path) if isinstance(part.origin, Local) else known[part.origin.url]
        digest, size = hashlib.sha256(), 0
        for chunk in self._unpack(path, part.members, name):
            digest.update(chunk)
            size += len(chunk)
            yield chunk
        if part.size_bytes and size != part.size_bytes:
            raise _other(name, f"a part of it has {size} bytes, not {part.size_bytes}")
        if part.sha256 and digest.hexdigest() != part.sha256:
            raise _other(name, f"a part of it has SHA-256 {digest.hexdigest()}, not {part.sha256}")

    def _unpack(self, path: Path, members: tuple[str, ...], name: str) -> Iterator[bytes]:
        if not members:
            yield from _chunks(path, name)
            return
        with open_archive(path, name) as archive:
            if len(members) == 1:
                yield from archive.read(members[0])
                return
            with tempfile.NamedTemporaryFile(dir=self._scratch) as inner:
                for chunk in archive.read(members[0]):
                    inner.write(chunk)
                inner.flush()
                yield from self._unpack(Path(inner.name), members[1:], f"{name}: {members[0]}")


def _chunks(path: Path, name: str) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError:
        raise NotFound("file", name, "It cannot be read any more: check the path and its permissions.") from None


def _other(name: str, rule: str) -> Refused:
    return Refused(file=name, rule=rule, remedy="Plan again; if it stays so, the source was changed or tampered with.")
