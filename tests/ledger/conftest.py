"""A ledger with one administrator, on each database."""

import pytest
from ledger_books import Books

from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def books(database: Database, fake_clock: FakeClock) -> Books:
    made = Books(database, fake_clock)
    await made.open()
    return made
