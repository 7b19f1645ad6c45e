"""A room of files on each database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from files_kit import Room

from dayspring.store.database import Database


@pytest.fixture
async def room(database: Database, tmp_path: Path) -> AsyncIterator[Room]:
    room = Room(database, tmp_path)
    yield room
    await room.files.close()
