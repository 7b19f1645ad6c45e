"""From a token to its principal, fast: a small memory of what the database said less than a second ago.

What holds: an answer is at most TTL_S older than the database's truth, and a key revoked by this process is refused
from that moment. Only the digest of a token is kept, never the token; nothing here is logged. The memory is bounded,
and what is not known is not remembered, so strangers cannot fill it.
"""

import hashlib

from sqlalchemy import Connection

from dayspring.accounts.keys import Key, find_by_token, is_token
from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Unauthenticated
from dayspring.store.database import Database

__all__ = ["TTL_S", "Authentication"]

TTL_S = 1.0
_MAX_ENTRIES = 10_000


class Authentication:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[bytes, tuple[int, Key, Principal]] = {}
        """Digest of a token: when to ask again (monotonic ns), the key, its principal."""
        self._generation = 0

    async def authenticate(self, token: str) -> Principal:
        """Raises Unauthenticated for what is no live key of ours; the sentence does not tell which of these it is."""
        # Not the comparison that admits: that is constant-time, in `find_by_token`. This only finds its result.
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock.monotonic_ns() < known[0]:
            key, principal = known[1], known[2]
        else:
            key = await self._ask(token, digest)
            principal = key.principal
        if not key.is_live(self._clock.time_ns()):
            raise Unauthenticated("This API key is revoked or has expired")
        return principal

    def forget(self, key_id: str) -> None:
        """Drops what is known of a key, also what a read under way is about to learn."""
        self._generation += 1
        for digest in [digest for digest, known in self._known.items() if known[1].id == key_id]:
            del self._known[digest]

    async def _ask(self, token: str, digest: bytes) -> Key:
        generation, asked_at_ns = self._generation, self._clock.monotonic_ns()

        def find(connection: Connection) -> Key | None:
            return find_by_token(connection, token)

        key = await self._db.read(find) if is_token(token) else None
        if key is None:
            self._known.pop(digest, None)
            raise Unauthenticated("This API key is not known here")
        if generation != self._generation:
            return await self._ask(token, digest)
        if len(self._known) >= _MAX_ENTRIES:
            self._known.clear()
        self._known[digest] = (asked_at_ns + int(TTL_S * 1e9), key, key.principal)
        return key
