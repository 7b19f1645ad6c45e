"""A worker's log: what its heavy library writes to standard output and error, capped and rotated once.

At most two files of `LIMIT_BYTES` exist for a name: `NAME.log` and, before it, `NAME.log.1`. The log of the worker
before, which may have died, is such a one.
"""

from io import FileIO
from pathlib import Path

__all__ = ["LIMIT_BYTES", "WorkerLog"]

LIMIT_BYTES = 4 << 20


class WorkerLog:
    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = self._fresh()
        self._written = 0

    def write(self, data: bytes) -> None:
        """Appends; a file that is full becomes `.log.1` first."""
        if self._written and self._written + len(data) > self._limit_bytes:
            self._file.close()
            self._file = self._fresh()
            self._written = 0
        self._file.write(data[-self._limit_bytes :])
        self._written += len(data)

    def _fresh(self) -> FileIO:
        if self.path.exists():
            self.path.replace(self.path.with_suffix(".log.1"))
        return self.path.open("wb", buffering=0)

    def close(self) -> None:
        self._file.close()
