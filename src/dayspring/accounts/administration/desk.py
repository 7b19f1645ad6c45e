"""What the administrator's verbs share: a change, and its effect on who is admitted from that moment."""

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from dayspring.accounts.authentication import Authentication
from dayspring.contracts.clock import Clock
from dayspring.store.database import Database

__all__ = ["Desk"]

T = TypeVar("T")


class Desk:
    def __init__(self, db: Database, clock: Clock, authentication: Authentication) -> None:
        self._db = db
        self._clock = clock
        self._authentication = authentication

    async def _change(self, make: Callable[[Connection], T], *owner_ids: str) -> T:
        """Writes; what is remembered of these keys, users or projects is asked again from then on."""
        try:
            return await self._db.write(make)
        finally:
            # Also when the waiting task is cancelled, for then the write is done all the same.
            for owner_id in owner_ids:
                self._authentication.forget(owner_id)
