"""What a content-addressed file store must do: files named by their SHA-256, written once, never changed.

A partial is a file on its way in. It is keyed by what the caller expects of it and survives the death of the process,
so that a download goes on where it stopped.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

__all__ = ["BlobStore", "Collected", "Partial"]


class Collected(msgspec.Struct, frozen=True):
    """What a collection let go of."""

    blobs: int
    bytes: int


class Partial(Protocol):
    """A file being written by exactly one process. Use it as a context manager: leaving keeps what was written."""

    @property
    def size_bytes(self) -> int:
        """Bytes written so far, also by an earlier process."""

    @property
    def tag(self) -> str:
        """What the writer noted about where the bytes come from, e.g. an ETag; empty for a fresh file."""

    def restart(self, tag: str) -> None:
        """Forget what was written, and note the new tag durably before the first byte."""

    def write(self, data: bytes) -> None: ...

    def finish(self, expected: str = "") -> str:
        """Make it a blob and return its digest. With `expected`, another digest raises Refused and starts afresh."""

    def __enter__(self) -> "Partial": ...

    def __exit__(self, *_: object) -> None: ...


class BlobStore(Protocol):
    """Digests are 64 lower-case hexadecimal characters."""

    def has(self, digest: str) -> bool: ...

    def hold(self, digest: str) -> bool:
        """As `has`, for who is about to refer to it: a collection leaves it for another `grace_s`."""

    def size(self, digest: str) -> int:
        """Bytes. Raises NotFound."""

    def path(self, digest: str) -> Path:
        """Where the file lies on this machine, to be read only. Raises NotFound."""

    def put(self, chunks: Iterable[bytes], expected: str = "") -> str:
        """Store the chunks, return their digest. With `expected`, another digest raises Refused; nothing is kept."""

    def adopt(self, file: Path, expected: str = "") -> str:
        """Move a finished file of the same disk in. The file is gone afterwards."""

    @property
    def incoming(self) -> Path:
        """A folder on the same disk, for files that `adopt` or `bind` will take."""

    def bind(self, file: Path, digest: str, expected: str = "", *, alike: bool = False) -> str:
        """As `adopt`, for a flushed file whose digest the caller has computed.

        `alike`: the same steps whether the content was there or not, so that the time they take tells nobody.
        """

    def read(self, digest: str) -> Iterator[bytes]:
        """The file in chunks. Raises Unavailable before the last one if the content is no longer what it was."""

    def read_span(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in chunks, as they lie on the disk."""

    def verify(self, digest: str) -> None:
        """Read it all. Raises Unavailable for damage, NotFound for absence."""

    def link(self, digest: str, target: Path) -> None:
        """Give the file a second, readable name. The target must not exist."""

    def partial(self, key: str) -> Partial:
        """The file on its way in under this key. Raises Conflict while another writer has it."""

    def keeping(self) -> AbstractContextManager[None]:
        """Hold it from a file's arrival until the row that refers to it is committed: nothing is let go meanwhile."""

    def release(self, digests: Iterable[str], referenced: Callable[[], set[str]]) -> None:
        """Let go of those that nothing refers to. `referenced` is asked while nobody is `keeping`."""

    def collect(self, referenced: Callable[[], set[str]], grace_s: float) -> Collected:
        """Remove what is not referenced and was not touched for `grace_s` seconds; partials too. `referenced` is asked
        while nobody is `keeping`."""
