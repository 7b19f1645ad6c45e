"""What whoever began a piece of work may still do: for work that goes on without the secret it was begun with.

What holds: an answer is at most TTL_S older than the database's truth, so a revoked key, a removed user or an archived
project stops the work within that time.
"""

from sqlalchemy import Connection

from dayspring.accounts.keys import credential_of
from dayspring.accounts.limits import with_limits
from dayspring.accounts.people.sessions import principal_of_user
from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Unauthenticated
from dayspring.store.database import Database

__all__ = ["TTL_S", "Standing"]

TTL_S = 1.0
_MAX_ENTRIES = 1000


class Standing:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[tuple[str, str, str], tuple[int, Principal | None]] = {}

    async def principal(self, key_id: str, user_id: str, project_id: str) -> Principal:
        """Who began it, as they stand now. Raises Unauthenticated where the key or the person is no longer welcome."""
        asked = (key_id, user_id, project_id)
        known = self._known.get(asked)
        if known is None or self._clock.monotonic_ns() >= known[0]:
            until_ns, now_ns = self._clock.monotonic_ns() + int(TTL_S * 1e9), self._clock.time_ns()
            found = await self._db.read(lambda connection: _find(connection, *asked, now_ns))
            if len(self._known) >= _MAX_ENTRIES:
                self._known.clear()
            known = self._known[asked] = (until_ns, found)
        if known[1] is None:
            raise Unauthenticated("The API key or the person who began this is revoked or has expired")
        return known[1]


def _find(connection: Connection, key_id: str, user_id: str, project_id: str, now_ns: int) -> Principal | None:
    if user_id and user_id == key_id:  # begun in a session
        principal = principal_of_user(connection, user_id, project_id)
    else:
        credential = credential_of(connection, key_id)
        if credential is None or (credential.ends_at_ns is not None and now_ns >= credential.ends_at_ns):
            return None
        principal = credential.principal
    return None if principal is None else with_limits(connection, principal)
