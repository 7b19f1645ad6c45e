"""A desk on an SQLite file of its own."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dispatch_desk import Desk, HeldDatabase


@pytest.fixture
async def desk(migrated_sqlite: Path, tmp_path: Path) -> AsyncIterator[Desk]:
    path = tmp_path / "desk.db"
    shutil.copyfile(migrated_sqlite, path)
    db = HeldDatabase.open(f"sqlite:///{path}")
    yield await Desk(db, home=tmp_path).open()
    db.close()
