"""Accounts with an operator and one ordinary organization, on both databases, with a clock that stands still."""

from collections.abc import AsyncIterator

import argon2
import pytest
from people_desk import PeopleDesk

from dayspring.accounts.people import passwords
from dayspring.contracts.clock import Clock
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same algorithm at a thousandth of the cost."""
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: cheap)
    passwords._nobody.cache_clear()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def desk(database: Database, clock: Clock) -> AsyncIterator[PeopleDesk]:
    made = PeopleDesk(database, clock)
    await made.start()
    yield made
    made.passwords.close()
