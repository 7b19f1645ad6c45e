"""Signing in at an identity provider: authorization code with proof key (RFC 6749, 7636), then a session of ours.

What holds: the way back is taken once, by the browser that began, within ten minutes; the code is bound to this sign-in
by the proof key and the id_token by the nonce. An identity is linked to the user, or takes the invitation, of an email
that the provider says is verified; any other identity gets nothing.
"""

import base64
import hashlib
import secrets
from urllib.parse import urlencode

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.audit import record
from dayspring.accounts.people.invites import pending_for
from dayspring.accounts.people.oidc.claims import Identity, identity_of, key_id_of
from dayspring.accounts.people.oidc.provider import Client, Provider
from dayspring.accounts.people.oidc.under_way import Pending, begin, take
from dayspring.accounts.people.sessions import Session
from dayspring.accounts.people.sign_in import (
    NewSession,
    SignIn,
    Visitor,
    as_actor,
    begin_session,
    invited_user,
    take_invite,
)
from dayspring.accounts.people.tokens import SESSION, new_token
from dayspring.accounts.people.users import User, change_user, linked, user_by_login, user_by_subject
from dayspring.contracts.clock import Clock
from dayspring.core.errors import SignInFailed
from dayspring.net.fetcher import Fetcher
from dayspring.store.database import Database

__all__ = ["Oidc", "WayOut"]


class WayOut(msgspec.Struct, frozen=True):
    """Where to send the browser, and what it must bring back."""

    url: str
    browser: str
    """A secret for a cookie of this browser's."""


class Oidc:
    def __init__(self, db: Database, clock: Clock, sign_in: SignIn, client: Client, fetcher: Fetcher) -> None:
        self._db = db
        self._clock = clock
        self._sign_in = sign_in
        self._client = client
        self._provider = Provider(client, fetcher, clock)

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach this server over HTTPS."""
        return self._client.redirect_url.startswith("https:")

    async def begin(self, visitor: Visitor, project_id: str = "") -> WayOut:
        """Raises Busy after too many, Unavailable where the provider cannot be reached."""
        self._sign_in.throttle.knock(visitor.address)
        document, now_ns = await self._provider.document(), self._clock.time_ns()
        state, browser, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
        pending = Pending(nonce, verifier, project_id[:64])
        await self._db.write(lambda connection: begin(connection, state, browser, pending, now_ns))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_url,
            "scope": self._client.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in document.authorization_endpoint else "?"
        return WayOut(f"{document.authorization_endpoint}{joint}{urlencode(asked)}", browser)

    async def finish(
        self, *, state: str, code: str, browser: str, visitor: Visitor, issuer: str | None = None
    ) -> NewSession:
        """The session. Raises SignInFailed for anything that is not the end of a sign-in this browser began."""
        now_ns = self._clock.time_ns()
        pending = await self._db.write(lambda connection: take(connection, state, browser, now_ns))
        if pending is None or not code or issuer not in (None, self._client.issuer):
            raise SignInFailed("This sign-in was not begun in this browser, or too long ago", "Begin again.")
        token = await self._provider.exchange(code, pending.verifier)
        identity = identity_of(
            token,
            await self._provider.keys(key_id_of(token)),
            issuer=self._client.issuer,
            client_id=self._client.client_id,
            nonce=pending.nonce,
            now_s=now_ns // 10**9,
        )
        return await self._admit(identity, pending.project_id or None, visitor)

    async def _admit(self, identity: Identity, project_id: str | None, visitor: Visitor) -> NewSession:
        now_ns, token = self._clock.time_ns(), new_token(SESSION)
        draft = self._sign_in.new_session(visitor)

        def make(connection: Connection) -> NewSession:
            user = _user_of(connection, identity, visitor, now_ns)
            session: Session = msgspec.structs.replace(draft, user_id=user.id)
            return begin_session(connection, user, session, token, project_id, "oidc")

        return await self._db.write(make)


def _user_of(connection: Connection, identity: Identity, visitor: Visitor, now_ns: int) -> User:
    """Who this identity is here: linked before, or now by a verified email. Raises SignInFailed for nobody."""
    user = user_by_subject(connection, identity.issuer, identity.subject)
    if user is not None:
        return user
    link = {"issuer": identity.issuer, "subject": identity.subject}
    found = user_by_login(connection, identity.email) if identity.email else None
    if found is not None:
        if linked(connection, found[0].id):
            raise _nobody()
        change_user(connection, found[0].id, **link)
        record(
            connection, now_ns=now_ns, actor=as_actor(found[0], visitor), event="user.updated", target_id=found[0].id,
            organization_id=found[0].organization_id, details={"changes_requested": {"identity_linked": True}},
        )  # fmt: skip
        return found[0]
    invite = pending_for(connection, identity.email, now_ns) if identity.email else None
    if invite is None:
        raise _nobody()
    user = invited_user(invite, identity.name, now_ns)
    take_invite(connection, invite, user, None, visitor, now_ns)
    change_user(connection, user.id, **link)
    return user


def _nobody() -> SignInFailed:
    return SignInFailed(
        "Nobody here has this identity, or its email is not verified", "Ask an administrator for an invitation."
    )
