"""Room for files: in a quota and on the disk, for one and for many at once."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from files_kit import OWNER, STRANGER, Room

from dayspring.core.errors import (
    DiskQuotaExceeded,
    TooLarge,
    Unavailable,
)
from dayspring.store.database import Database


async def test_a_file_over_the_limit_or_the_quota_leaves_nothing(database: Database, tmp_path: Path) -> None:
    room = Room(database, tmp_path, max_file_bytes=2048, project_disk_bytes=3000)
    with pytest.raises(TooLarge, match="2048 bytes"):
        await room.add(b"x" * 2049)
    kept = await room.add(b"x" * 2000)
    with pytest.raises(DiskQuotaExceeded, match="3000 bytes"):
        await room.add(b"y" * 1001)
    await room.add(b"y" * 1000)
    await room.add(b"z" * 2000, STRANGER)  # a quota of its own
    await room.files.delete(OWNER, kept.id)
    await room.add(b"w" * 2000)
    await room.files.close()
    assert len(room.stored()) == 3


async def test_files_at_once_cannot_share_the_last_room(database: Database, tmp_path: Path) -> None:
    room = Room(database, tmp_path, project_disk_bytes=10_000)
    second = Room(database, tmp_path / "second", project_disk_bytes=10_000)  # another server of the same database

    async def add(turn: int) -> int:
        try:
            return (await (room, second)[turn % 2].add(bytes([65 + turn]) * 3000)).size_bytes
        except DiskQuotaExceeded:
            return 0

    sizes = await asyncio.gather(*(add(turn) for turn in range(10)))
    assert 3000 <= sum(sizes) <= 9000
    assert len((await room.files.list(OWNER)).data) == sum(sizes) // 3000
    await room.files.close()
    await second.files.close()
    assert len(room.stored()) + len(second.stored()) == sum(sizes) // 3000


async def test_a_disk_kept_free_is_a_clear_error_and_leaves_nothing(database: Database, tmp_path: Path) -> None:
    room = Room(database, tmp_path, disk_reserve_bytes=1 << 60)
    with pytest.raises(Unavailable, match="disk is full"):
        await room.add(b"x" * 100)
    assert room.stored() == []


def test_a_disk_that_takes_no_more_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    """In a process that may write no file over 1 MiB, which its disk refuses as a full one does."""
    program = """
import asyncio, resource, signal, sys
from pathlib import Path
from files_kit import OWNER, Room, chunked
from dayspring.core.errors import Unavailable
from dayspring.store import migrate
from dayspring.store.database import Database

home = Path(sys.argv[1])
url = f"sqlite:///{home / 'test.db'}"
migrate.upgrade(url)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

async def main():
    room = Room(Database.open(url), home)
    try:
        await room.files.create(OWNER, name="x", purpose="user_data", chunks=chunked(b"x" * (3 << 20), 65536))
    except Unavailable as error:
        assert "disk is full" in error.message
    else:
        raise AssertionError
    assert room.stored() == []
    assert (await room.add(b"small")).size_bytes == 5
    room.database.close()

asyncio.run(main())
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
