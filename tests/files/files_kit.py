"""What the tests of files share: a room over a database, two projects, and contents of every kind."""

import zlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from dayspring.accounts.principals import Principal, Scope
from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.clock import Clock
from dayspring.core.settings import Settings
from dayspring.files.records import File
from dayspring.files.service import Files
from dayspring.files.uploads import Uploads
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock

__all__ = ["JSONL", "OWNER", "PNG", "STRANGER", "Room", "chunked", "person"]

JSONL = b'{"a": 1}\n{"a": 2}\n'


def _png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = (1).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    pixels = zlib.compress(b"\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PNG = _png()


def person(project: str, organization: str = "org_1", *scopes: str, user: str = "") -> Principal:
    held = frozenset(scopes or {Scope.INFERENCE})
    return Principal(organization, project, f"key_{project}", held, user_id=user)


OWNER = person("proj_1")
STRANGER = person("proj_2", "org_2")


async def chunked(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class Room:
    """Files and uploads of one data folder."""

    def __init__(self, database: Database, home: Path, clock: Clock | None = None, **more: object) -> None:
        self.settings = Settings(**{"home": home, "disk_reserve_bytes": 0, **more})  # type: ignore[arg-type]
        self.database = database
        self.clock = clock or FakeClock()
        self.blobs = DiskBlobs(home / "blobs")
        self.files = Files(database, self.blobs, self.settings, self.clock)
        self.uploads = Uploads(self.files, database, self.settings, self.clock)

    async def add(
        self, data: bytes, principal: Principal = OWNER, *, name: str = "notes.txt", purpose: str = "user_data"
    ) -> File:
        return await self.files.create(principal, name=name, purpose=purpose, chunks=chunked(data))

    async def read(self, file: File, principal: Principal = OWNER) -> bytes:
        _, chunks = await self.files.content(principal, file.id)
        return b"".join([chunk async for chunk in chunks])

    async def part(self, upload_id: str, data: bytes, number: int | None = None, principal: Principal = OWNER) -> str:
        async with await self.uploads.begin_part(principal, upload_id) as incoming:
            async for chunk in chunked(data):
                await incoming.write(chunk)
            return (await self.uploads.keep_part(principal, upload_id, incoming, number)).id

    def stored(self) -> list[str]:
        """Digests of everything that is stored, and names of what is half there."""
        kept = [file.name for file in (self.blobs.root / "sha256").glob("*/*/*")]
        return sorted([*kept, *self.on_the_way()])

    def on_the_way(self) -> Iterable[str]:
        folders = (self.blobs.incoming, self.settings.home / "uploads")
        return [str(file) for folder in folders for file in folder.rglob("*") if file.is_file()]
