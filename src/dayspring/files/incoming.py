"""One file on its way in: written in a thread, hashed as it comes, counted against quota and disk.

What holds: whatever happens before `Files.keep`, leaving the context leaves nothing behind.
"""

import asyncio
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Self

from dayspring.core.errors import DayspringError, TooLarge
from dayspring.files.kinds import HEAD_BYTES, media_type
from dayspring.files.space import Claim, disk_failure

__all__ = ["Incoming"]

_GATHER_BYTES = 1 << 20
"""Written to the disk at once; a hop to a thread for each network chunk would cost more than the write."""


class Incoming:
    """Use it as an async context manager, `write` what arrives, then give it to `Files.keep`."""

    def __init__(self, folder: Path, claim: Claim, limit_bytes: int, too_large: DayspringError | None = None) -> None:
        """`too_large` is what more than `limit_bytes` raises; by default TooLarge."""
        handle, name = tempfile.mkstemp(dir=folder)
        self.path = Path(name)
        self.claim = claim
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._too_large = too_large or TooLarge(
            what="The file", limit_bytes=limit_bytes, setting="DAYSPRING_MAX_FILE_BYTES"
        )
        self._stream = os.fdopen(handle, "wb", buffering=0)
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._head = b""
        self._writing = threading.Lock()
        """Held by the thread that writes: a cancelled caller must not close the file under it."""
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    async def write(self, data: bytes) -> None:
        """Raises TooLarge, DiskQuotaExceeded, Unavailable for a full disk."""
        self.size_bytes += len(data)
        if self.size_bytes > self._limit_bytes:
            raise self._too_large
        self.claim.take(len(data))
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= _GATHER_BYTES:
            await self._spill()

    async def _spill(self) -> None:
        data, self._gathered, self._gathered_bytes = b"".join(self._gathered), [], 0
        await asyncio.to_thread(self._put, data)

    def _put(self, data: bytes) -> None:
        with self._writing:
            if self._stream.closed:
                return  # its caller was cancelled
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[self._stream.write(rest) :]
            except OSError as error:
                raise disk_failure(error) from None
            self._sha256.update(data)
            self._md5.update(data)
            if len(self._head) < HEAD_BYTES:
                self._head = (self._head + data)[:HEAD_BYTES]

    def append(self, data: bytes) -> None:
        """As `write`, in the calling thread, for bytes that are counted already."""
        self.size_bytes += len(data)
        self._put(data)

    async def finish(self) -> None:
        """All have come: everything goes to the disk for good. Raises Unavailable."""
        await self._spill()
        await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Durable, in the calling thread."""
        with self._writing:
            try:
                if not self._stream.closed:
                    os.fsync(self._stream.fileno())
            except OSError as error:
                raise disk_failure(error) from None

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    @property
    def media_type(self) -> str:
        """What the content is."""
        return media_type(self._head, len(self._head) == self.size_bytes)

    def remove(self) -> None:
        """In the calling thread: what was not kept goes. A large file takes its time."""
        with self._writing:
            self._stream.close()
        self.path.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.claim.end()
        await asyncio.to_thread(self.remove)
