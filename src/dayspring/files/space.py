"""Whether there is room: in the project's quota, and on the disk.

What holds: the transaction that adds a file adds up what the project keeps, under a lock of the project's row, so that
two files at once cannot both take the last room; while bytes arrive the same is asked of what is known, so that a file
that cannot fit is refused early and no disk is filled with what will be.
"""

import errno
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import Connection, select

from dayspring.accounts.organizations import projects
from dayspring.core.errors import DayspringError, DiskQuotaExceeded, Unavailable
from dayspring.files.parts import part_bytes
from dayspring.files.records import stored_bytes

__all__ = ["Claim", "Quota", "Space", "disk_failure", "kept_bytes"]

Quota = Callable[[str], Awaitable[int | None]]
"""The bytes a project may keep, by its id; None: no limit."""

_LOOK_BYTES = 8 << 20
"""How many bytes arrive between two looks at the disk."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def kept_bytes(connection: Connection, project_id: str) -> int:
    """Files and waiting parts of a project."""
    return stored_bytes(connection, project_id) + part_bytes(connection, project_id)


def disk_failure(error: OSError) -> DayspringError:
    """What a client is told when the disk did not take its bytes."""
    if error.errno in _FULL:
        return _disk_full()
    return Unavailable("The server's disk could not be written", "Try again; if it lasts, tell its operator.")


def _disk_full() -> Unavailable:
    return Unavailable("The server's disk is full", "Have its operator make room, then send the file again.")


class Space:
    """One for each process: it knows what is arriving."""

    def __init__(self, folder: Path, reserve_bytes: int) -> None:
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._arriving: Counter[str] = Counter()

    def claim(self, project_id: str, quota_bytes: int | None, kept: int) -> "Claim":
        """For bytes that begin to arrive in a project that keeps `kept` bytes."""
        return Claim(self, project_id, quota_bytes, kept)

    def arrived(self, project_id: str, size: int) -> int:
        """Counts `size` more (or, negative, fewer) bytes; what is arriving in the project now."""
        self._arriving[project_id] += size
        if not self._arriving[project_id]:
            del self._arriving[project_id]
        return self._arriving.get(project_id, 0)

    def check_disk(self) -> None:
        """Raises Unavailable when the disk has less left than is reserved."""
        status = os.statvfs(self._folder)
        if status.f_bavail * status.f_frsize < self._reserve_bytes:
            raise _disk_full()


class Claim:
    """The room for one file on its way."""

    def __init__(self, space: Space, project_id: str, quota_bytes: int | None, kept: int) -> None:
        self._space = space
        self._project_id = project_id
        self._quota_bytes = quota_bytes
        self._kept = kept
        self._size = 0
        self._looked_at = -_LOOK_BYTES

    def take(self, size: int) -> None:
        """Before `size` more bytes are written. Raises DiskQuotaExceeded, Unavailable."""
        self._size += size
        arriving = self._space.arrived(self._project_id, size)
        if self._quota_bytes is not None and self._kept + arriving > self._quota_bytes:
            raise DiskQuotaExceeded(quota_bytes=self._quota_bytes)
        if self._size - self._looked_at >= _LOOK_BYTES:
            self._looked_at = self._size
            self._space.check_disk()

    def settle(self, connection: Connection, size: int, freed: int = 0) -> None:
        """In the transaction that adds `size` bytes and takes `freed` away. Raises DiskQuotaExceeded."""
        if self._quota_bytes is None:
            return
        # On PostgreSQL other servers' transactions of this project wait here; SQLite has one writer at a time.
        connection.execute(
            select(projects.c.id).where(projects.c.id == self._project_id).with_for_update(key_share=True)
        )
        if kept_bytes(connection, self._project_id) - freed + size > self._quota_bytes:
            raise DiskQuotaExceeded(quota_bytes=self._quota_bytes)

    def end(self) -> None:
        """The bytes are no longer on their way: kept or gone."""
        self._space.arrived(self._project_id, -self._size)
        self._size = 0
