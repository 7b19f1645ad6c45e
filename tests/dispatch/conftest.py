"""A desk on an SQLite file of its own, and one for all examples of a property."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from dispatch_desk import Desk, HeldDatabase


def _database(template: Path, folder: Path) -> HeldDatabase:
    path = folder / "desk.db"
    shutil.copyfile(template, path)
    return HeldDatabase.open(f"sqlite:///{path}")


@pytest.fixture
async def desk(migrated_sqlite: Path, tmp_path: Path) -> AsyncIterator[Desk]:
    db = _database(migrated_sqlite, tmp_path)
    yield await Desk(db, home=tmp_path).open()
    db.close()


@pytest.fixture(scope="module")
def bench(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Desk]]:
    """One desk and its loop for all examples: requests of earlier ones must not disturb later ones either."""
    folder = tmp_path_factory.mktemp("bench")
    db = _database(migrated_sqlite, folder)
    with asyncio.Runner() as runner:
        yield runner, runner.run(Desk(db, home=folder).open())
    db.close()
