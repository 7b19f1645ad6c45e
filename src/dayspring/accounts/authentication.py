"""From a token to its principal, fast: a small memory of what the database said less than a second ago.

Two kinds of token: an API key's secret, and that of a session, which a person has after signing in. What holds: an
answer is at most TTL_S older than the database's truth, and what this process ended is refused from that moment. Only
the digest of a token is kept, never the token; nothing here is logged. The memory is bounded, and what is not known is
not remembered, so strangers cannot fill it.
"""

import hashlib

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.credentials import Credential
from dayspring.accounts.keys import find_by_token, is_token
from dayspring.accounts.limits import with_limits
from dayspring.accounts.people import tokens
from dayspring.accounts.people.sessions import NOTED_S, find_session, note_use
from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Unauthenticated
from dayspring.store.database import Database

__all__ = ["TTL_S", "Authentication"]

TTL_S = 1.0
_MAX_ENTRIES = 10_000
_LONGEST_ID = 64


class Authentication:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[bytes, tuple[int, Credential]] = {}
        """Digest of what was sent: when to ask again (monotonic ns), and what the database said."""
        self._generation = 0

    async def authenticate(self, token: str, project_id: str | None = None) -> Principal:
        """Raises Unauthenticated for what is no live secret of ours; the sentence does not tell which of these it is.

        `project_id` chooses the project a session works in, and raises NotFound for one that is not open to its user.
        A key belongs to one project, whatever is asked.
        """
        is_session = token.startswith(tokens.SESSION)
        sent = f"{token} {project_id}" if is_session and project_id else token
        # Not the comparison that admits: that is constant-time, beside each table. This only finds its result.
        digest = hashlib.sha256(sent.encode("utf-8", "replace")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock.monotonic_ns() < known[0]:
            credential = known[1]
        else:
            credential = await self._ask(token, project_id if is_session else None, digest)
        if credential.ends_at_ns is not None and self._clock.time_ns() >= credential.ends_at_ns:
            raise _ended() if is_session else Unauthenticated("This API key is revoked or has expired")
        return credential.principal

    def forget(self, owner_id: str) -> None:
        """Drops what is known of a key, session, user, project or organization, also what a read under way is about
        to learn."""
        self._generation += 1
        for digest in [digest for digest, known in self._known.items() if owner_id in known[1].owners]:
            del self._known[digest]

    async def _ask(self, token: str, project_id: str | None, digest: bytes) -> Credential:
        generation, asked_at_ns = self._generation, self._clock.monotonic_ns()
        now_ns = self._clock.time_ns()

        def find(connection: Connection) -> Credential | None:
            found = None
            if is_token(token):
                found = find_by_token(connection, token, now_ns)
            elif project_id is None or len(project_id) <= _LONGEST_ID:
                found = find_session(connection, token, project_id)
            if found is None:
                return None
            return msgspec.structs.replace(found, principal=with_limits(connection, found.principal))

        ours = is_token(token) or tokens.is_token(token, tokens.SESSION)
        credential = await self._db.read(find) if ours else None
        if credential is None:
            self._known.pop(digest, None)
            if tokens.is_token(token, tokens.SESSION):
                raise _ended()
            raise Unauthenticated("This API key is not known here")
        if generation != self._generation:
            return await self._ask(token, project_id, digest)
        if len(self._known) >= _MAX_ENTRIES:
            self._known.clear()
        self._known[digest] = (asked_at_ns + int(TTL_S * 1e9), credential)
        self._note(credential, now_ns)
        return credential

    def _note(self, credential: Credential, now_ns: int) -> None:
        """Keeps a session from ending as idle."""
        seen_ns = credential.seen_at_ns
        if seen_ns is None or credential.ends_at_ns is None or not seen_ns + NOTED_S * 10**9 <= now_ns:
            return
        if now_ns < credential.ends_at_ns:
            session_id = credential.owners[0]
            self._db.follow(lambda connection: note_use(connection, session_id, now_ns))


def _ended() -> Unauthenticated:
    return Unauthenticated("This session has ended, or never was", "Sign in again with POST /v1/sessions.")
