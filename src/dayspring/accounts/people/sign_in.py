"""Signing in and out: what anybody may do who proves to be somebody.

What holds: an unknown email, a removed user and a wrong password get the same answer after the same time; attempts are
throttled; a new password ends every session. Nothing here tells whether an email has an account.
"""

import msgspec
from sqlalchemy import ColumnElement, Connection, select

from dayspring.accounts.audit import record
from dayspring.accounts.authentication import Authentication
from dayspring.accounts.organizations import list_projects
from dayspring.accounts.people.invites import Invite, accept, find_reset, open_invite, use_reset
from dayspring.accounts.people.memberships import open_project
from dayspring.accounts.people.passwords import Passwords, check_password
from dayspring.accounts.people.sessions import (
    Session,
    add_session,
    check_project,
    end_sessions,
    list_sessions,
    sessions,
)
from dayspring.accounts.people.throttle import Throttle
from dayspring.accounts.people.tokens import SESSION, digest_of, new_token
from dayspring.accounts.people.users import User, add_user, change_user, check_name, find_user, user_by_login, users
from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import NotFound, PermissionDenied, SignInFailed
from dayspring.core.ids import new_id
from dayspring.store.database import Database
from dayspring.store.parts import in_parts

__all__ = ["Lasting", "NewSession", "SignIn", "Visitor", "as_actor", "begin_session", "invited_user", "take_invite"]


class Visitor(msgspec.Struct, frozen=True):
    """Where an attempt comes from."""

    address: str
    user_agent: str = ""


class NewSession(msgspec.Struct, frozen=True):
    session: Session
    user: User
    token: str
    """The secret. It cannot be had again."""

    def __repr__(self) -> str:
        return f"NewSession(session={self.session!r})"


class Lasting(msgspec.Struct, frozen=True):
    """How long a session lasts, in seconds."""

    idle_s: int
    longest_s: int


class SignIn:
    def __init__(
        self, db: Database, clock: Clock, authentication: Authentication, passwords: Passwords, lasting: Lasting
    ) -> None:
        self._db = db
        self._clock = clock
        self._authentication = authentication
        self._passwords = passwords
        self.throttle = Throttle(clock)
        self.lasting = lasting

    async def with_password(
        self, email: str, password: str, visitor: Visitor, project_id: str | None = None
    ) -> NewSession:
        """A session. Raises SignInFailed, Busy after too many attempts, NotFound for a project not open to them."""
        account = email.strip().casefold()[:320]
        self.throttle.attempt(account, visitor.address)
        found = await self._db.read(lambda connection: user_by_login(connection, email))
        fits, better = await self._passwords.matches(found and found[1], password)
        if not fits or found is None:
            if found is not None:
                self._failed(found[0], visitor)
            raise _wrong()
        self.throttle.succeeded(account, visitor.address)
        known = found[1]
        token, session = new_token(SESSION), self.new_session(visitor, found[0].id)

        def make(connection: Connection) -> NewSession:
            now = user_by_login(connection, email)
            if now is None or now[1] != known:  # changed while it was compared
                raise _wrong()
            if better is not None:
                change_user(connection, now[0].id, password=better)
            return begin_session(connection, now[0], session, token, project_id, "password")

        return await self._db.write(make)

    async def sign_out(self, principal: Principal, token: str) -> None:
        """Ends the session this token is the secret of. Raises PermissionDenied for a key."""
        _person(principal)
        await self._end(principal, sessions.c.digest == digest_of(token))

    async def list_sessions(self, principal: Principal) -> list[Session]:
        """One's own. Raises PermissionDenied for a key."""
        user_id, now_ns = _person(principal), self._clock.time_ns()
        return await self._db.read(lambda connection: list_sessions(connection, user_id, now_ns))

    async def end_session(self, principal: Principal, session_id: str) -> None:
        """One of one's own. Raises NotFound."""
        user_id = _person(principal)
        if not await self._end(principal, (sessions.c.id == session_id) & (sessions.c.user_id == user_id)):
            raise NotFound("session", session_id)

    async def change_password(self, principal: Principal, old: str, new: str, visitor: Visitor) -> None:
        """One's own; ends every session. Raises SignInFailed for a wrong old one."""
        user_id = _person(principal)
        user = await self._db.read(lambda connection: find_user(connection, user_id, None))
        self.throttle.attempt(user.email.casefold(), visitor.address)
        found = await self._db.read(lambda connection: user_by_login(connection, user.email))
        fits, _ = await self._passwords.matches(found and found[1], old)
        if not fits:
            raise SignInFailed("The old password is wrong", "Try again.")
        self.throttle.succeeded(user.email.casefold(), visitor.address)
        await self._set_password(user, new, as_actor(user, visitor))

    async def use_reset(self, token: str, password: str, visitor: Visitor) -> User:
        """Sets the password with a one-time link; ends every session. Raises InvalidRequest for a link of no use."""
        self.throttle.attempt(f"link {visitor.address}", visitor.address)
        now_ns = self._clock.time_ns()

        def peek(connection: Connection) -> User:
            return find_user(connection, find_reset(connection, token, now_ns), None)

        user = await self._db.read(peek)
        await self._set_password(user, password, as_actor(user, visitor), token)
        return user

    async def accept_invite(self, token: str, name: str, password: str, visitor: Visitor) -> NewSession:
        """Makes the invited user and signs them in. Raises InvalidRequest for a link of no use."""
        self.throttle.attempt(f"link {visitor.address}", visitor.address)
        now_ns, secret, name = self._clock.time_ns(), new_token(SESSION), check_name(name)
        invite = await self._db.read(lambda connection: open_invite(connection, token, now_ns))
        check_password(password, invite.email, name)
        encoded = await self._passwords.hashed(password)
        user = invited_user(invite, name, now_ns)
        session = self.new_session(visitor, user.id)

        def make(connection: Connection) -> NewSession:
            take_invite(connection, open_invite(connection, token, now_ns), user, encoded, visitor, now_ns)
            return begin_session(connection, user, session, secret, None, "invite")

        return await self._db.write(make)

    def new_session(self, visitor: Visitor, user_id: str = "") -> Session:
        """A session of the lengths set here, in no project yet."""
        now_ns = self._clock.time_ns()
        return Session(
            new_id("sess"),
            user_id, "", visitor.address[:64], visitor.user_agent[:200], now_ns, now_ns,
            self.lasting.idle_s * 10**9, now_ns + self.lasting.longest_s * 10**9,
        )  # fmt: skip

    async def sweep(self) -> int:
        """Deletes sessions that have ended; how many."""
        now_ns = self._clock.time_ns()
        over = (sessions.c.expires_at_ns <= now_ns) | (sessions.c.seen_at_ns + sessions.c.idle_ns <= now_ns)
        return len(await self._db.write(lambda connection: end_sessions(connection, over)))

    async def _set_password(self, user: User, password: str, actor: Principal, link: str | None = None) -> None:
        """`link` is the one-time link it is done with, which is then used up."""
        check_password(password, user.email, user.name)
        encoded, now_ns = await self._passwords.hashed(password), self._clock.time_ns()

        def make(connection: Connection) -> None:
            if link is not None:
                use_reset(connection, link, now_ns)
            change_user(connection, user.id, password=encoded)
            end_sessions(connection, sessions.c.user_id == user.id)
            record(
                connection, now_ns=now_ns, actor=actor, event="user.updated", target_id=user.id,
                organization_id=user.organization_id,
                details={"changes_requested": {"password": True}, "via": "password" if link is None else "link"},
            )  # fmt: skip

        try:
            await self._db.write(make)
        finally:
            self._authentication.forget(user.id)

    async def _end(self, actor: Principal, where: ColumnElement[bool]) -> int:
        """Ends sessions, with an entry each; how many."""
        query = select(sessions.c.id, sessions.c.user_id, users.c.organization_id).join(users).where(where)
        found = await self._db.read(lambda connection: connection.execute(query).all())
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> int:
            ended = set[str]()
            for part in in_parts([row.id for row in found]):
                ended.update(end_sessions(connection, sessions.c.id.in_(part)))
            for row in found:
                if row.id in ended:
                    record(
                        connection, now_ns=now_ns, actor=actor, event="logout.succeeded", target_id=row.user_id,
                        organization_id=row.organization_id,
                    )  # fmt: skip
            return len(ended)

        try:
            return await self._db.write(make) if found else 0
        finally:
            # Also when the waiting task is cancelled, for then the write is done all the same.
            for row in found:
                self._authentication.forget(row.id)

    def _failed(self, user: User, visitor: Visitor) -> None:
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> None:
            record(
                connection, now_ns=now_ns, actor=as_actor(user, visitor), event="login.failed", target_id=user.id,
                organization_id=user.organization_id, details={"error_code": SignInFailed.code},
            )  # fmt: skip

        self._db.follow(make)  # without waiting, for the time it takes would tell that there is such a user


def begin_session(
    connection: Connection, user: User, session: Session, token: str, project_id: str | None, via: str
) -> NewSession:
    """The session in its project, with its entry. Raises NotFound for a project that is not open to the user."""
    session = msgspec.structs.replace(session, project_id=check_project(connection, user, project_id))
    add_session(connection, session, token)
    record(
        connection, now_ns=session.created_at_ns, actor=as_actor(user, Visitor(session.address)),
        event="login.succeeded", target_id=user.id, organization_id=user.organization_id, details={"via": via},
    )  # fmt: skip
    return NewSession(session, user, token)


def take_invite(
    connection: Connection, invite: Invite, user: User, encoded: str | None, visitor: Visitor, now_ns: int
) -> None:
    """Makes the user an invitation is for, with the projects it opens. Raises Conflict where it was taken before."""
    add_user(connection, user, encoded)
    accept(connection, invite, user.id, now_ns)
    here = {project.id for project in list_projects(connection, invite.organization_id, archived=False)}
    for project_id, role in invite.projects:
        if project_id in here:
            open_project(connection, project_id, user.id, role, now_ns)
    record(
        connection, now_ns=now_ns, actor=as_actor(user, visitor), event="invite.accepted", target_id=invite.id,
        organization_id=invite.organization_id,
    )  # fmt: skip


def invited_user(invite: Invite, name: str, now_ns: int) -> User:
    return User(new_id("user"), invite.organization_id, invite.email, name, invite.role, now_ns)


def as_actor(user: User, visitor: Visitor) -> Principal:
    """Who the audit log names for what somebody does on the way in."""
    return Principal(user.organization_id, "", user.id, frozenset(), user_id=user.id, address=visitor.address)


def _person(principal: Principal) -> str:
    if not principal.is_session:
        raise PermissionDenied("This is for people who signed in", "Send a session's token instead of a key.")
    return principal.user_id


def _wrong() -> SignInFailed:
    return SignInFailed(
        "The email or the password is wrong", "Try again, or ask an administrator for a link to set a new password."
    )
