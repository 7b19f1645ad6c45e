"""What a backup says of itself, at its beginning and, complete, at its end."""

from collections.abc import Callable

import msgspec

__all__ = ["FORMAT", "NO_BACKUP", "Entry", "Header", "Manifest", "Progress", "table_of"]

FORMAT = 1
"""Goes up when an older program could not read what a newer one writes."""

NO_BACKUP = frozenset({"alembic_version", "dbos_migrations", "uploads", "upload_parts"})
"""Tables that are not in it: the marks of the two schemas, which restoring makes anew, and uploads under way."""

Progress = Callable[[str, int, int], None]
"""Told what is done, so many bytes of so many."""


class Header(msgspec.Struct, frozen=True):
    format: int
    version: str
    """Of the Dayspring that made it."""
    revision: str
    """Of the database it was made of."""
    created_at_ns: int
    dialect: str
    models: bool
    """Whether downloadable models' files are in it."""


class Entry(msgspec.Struct, frozen=True):
    size_bytes: int
    sha256: str
    rows: int | None = None


class Manifest(msgspec.Struct, frozen=True):
    header: Header
    entries: dict[str, Entry]
    left_out: list[str]
    """Digests of models' files that can be fetched again, and are not in it."""
    skipped: list[str] = []
    """Files of the data folder that were no part of it, for their size or name."""

    @property
    def rows(self) -> int:
        return sum(entry.rows or 0 for entry in self.entries.values())

    @property
    def blobs(self) -> int:
        return sum(name.startswith("blobs/") for name in self.entries)

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.entries.values())


def table_of(name: str) -> str:
    """The table behind `tables/keys.jsonl.gz`."""
    return name.partition("/")[2].removesuffix(".jsonl.gz")
