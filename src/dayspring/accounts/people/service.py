"""People: users, their roles and projects, invitations and password links. The administrator's verbs.

Each verb takes who asks as `actor` (None: the terminal on this machine) and checks that inside its transaction, where
it also writes the audit log. What holds: a user who is removed, or whose role or password changed, is signed out at
once in this process and within a second in others; the removed user's keys are revoked in the same transaction.
What it does not do: sign anybody in (`sign_in`), erase (`privacy`).
"""

from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.access import check_over, organization_for, organization_of
from dayspring.accounts.audit import record
from dayspring.accounts.authentication import Authentication
from dayspring.accounts.keys import keys, list_keys, revoke_key
from dayspring.accounts.organizations import find_project, list_projects
from dayspring.accounts.people.invites import (
    Invite,
    add_invite,
    add_reset,
    delete_invite,
    find_invite,
    list_invites,
    password_resets,
)
from dayspring.accounts.people.memberships import close_projects, open_project, projects_of
from dayspring.accounts.people.passwords import Passwords, check_password
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.sessions import end_sessions, sessions
from dayspring.accounts.people.tokens import INVITE, RESET, new_token
from dayspring.accounts.people.users import (
    User,
    add_user,
    change_user,
    check_email,
    check_name,
    find_user,
    list_users,
    remove_user,
)
from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, NotFound, PermissionDenied
from dayspring.core.ids import new_id
from dayspring.store.database import Database

__all__ = ["Link", "NewUser", "People", "UserChange", "forget_user"]

RESET_LASTS_NS = 24 * 3600 * 10**9
INVITE_LASTS_NS = 7 * 86_400 * 10**9


class NewUser(msgspec.Struct, frozen=True, kw_only=True):
    """Who shall be a user. Without `projects`, the organization's first one is opened, in the user's own role."""

    email: str
    name: str = ""
    role: Role = Role.MEMBER
    password: str | None = None
    """None: a link is made with which the user sets one."""
    is_operator: bool = False
    organization_id: str | None = None
    """None: that of who asks."""
    projects: tuple[tuple[str, Role], ...] | None = None


class UserChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is not None is changed."""

    role: Role | None = None
    name: str | None = None
    is_operator: bool | None = None


class Link(msgspec.Struct, frozen=True):
    """The secret of a one-time link. It cannot be had again."""

    token: str
    expires_at_ns: int

    def __repr__(self) -> str:
        return f"Link(expires_at_ns={self.expires_at_ns})"


class People:
    def __init__(self, db: Database, clock: Clock, authentication: Authentication, passwords: Passwords) -> None:
        self._db = db
        self._clock = clock
        self._authentication = authentication
        self._passwords = passwords

    async def add(self, actor: Principal | None, new: NewUser) -> tuple[User, Link | None]:
        """The user, and without a password the link to set one. Raises Conflict for an email that has an account."""
        email, name = check_email(new.email), check_name(new.name)
        encoded = None
        if new.password is not None:
            check_password(new.password, email, name)
            encoded = await self._passwords.hashed(new.password)
        now_ns = self._clock.time_ns()
        user_id, token = new_id("user"), new_token(RESET)
        if new.is_operator and actor is not None and not actor.is_admin:
            raise PermissionDenied("Only an operator makes another", "Leave is_operator out.")

        def make(connection: Connection) -> User:
            own = organization_for(actor, connection)
            organization_id = new.organization_id or own
            if organization_id != own and organization_of(actor) is not None:
                raise NotFound("organization", organization_id)
            user = User(user_id, organization_id, email, name, new.role, now_ns, new.is_operator)
            places = _places(connection, organization_id, new.projects, new.role)
            add_user(connection, user, encoded)
            for project_id, role in places:
                open_project(connection, project_id, user.id, role, now_ns)
            if encoded is None:
                add_reset(connection, user.id, token, now_ns + RESET_LASTS_NS)
            _added(connection, actor, user, now_ns)
            return user

        user = await self._db.write(make)
        return user, None if encoded is not None else Link(token, now_ns + RESET_LASTS_NS)

    async def get(self, actor: Principal | None, user_id: str) -> User:
        """Raises NotFound, also for another organization's. A user may always look at themselves."""

        def find(connection: Connection) -> User:
            if actor is None or actor.user_id != user_id:
                organization_for(actor, connection)
            return find_user(connection, user_id, organization_of(actor))

        return await self._db.read(find)

    async def list_users(
        self, actor: Principal | None, *, emails: Sequence[str] = (), after: str | None = None, limit: int = 100
    ) -> list[User]:
        """Those of the organization, for the terminal of every one; oldest first, at most `limit`."""

        def find(connection: Connection) -> list[User]:
            own = organization_for(actor, connection)
            place = None if actor is None else own
            return list_users(connection, place, emails=emails, after=after, limit=limit)

        return await self._db.read(find)

    async def projects(self, user: User) -> list[tuple[str, str, Role]]:
        """Id, name and role of each project that was opened to the user, oldest first."""
        return await self._db.read(lambda connection: projects_of(connection, user))

    async def change(self, actor: Principal | None, user_id: str, change: UserChange) -> User:
        """Raises NotFound, PermissionDenied. A new role ends the user's sessions."""
        now_ns = self._clock.time_ns()
        values = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
        if change.name is not None:
            values["name"] = check_name(change.name)

        def make(connection: Connection) -> User:
            organization_for(actor, connection)
            user = find_user(connection, user_id, organization_of(actor))
            check_over(actor, user, role=change.role)
            if change.is_operator is not None and actor is not None and not actor.is_admin:
                raise PermissionDenied("Only an operator makes another", "Leave is_operator out.")
            if values:
                change_user(connection, user_id, **values)
            if change.role is not None or change.is_operator is not None:
                end_sessions(connection, sessions.c.user_id == user_id)
            asked = {name: value for name, value in values.items() if name != "name"}
            record(
                connection, now_ns=now_ns, actor=actor, event="user.updated", target_id=user_id,
                organization_id=user.organization_id, details={"changes_requested": asked},
            )  # fmt: skip
            return find_user(connection, user_id, None)

        return await self._and_forget(make, user_id)

    async def remove(self, actor: Principal | None, user_id: str) -> User:
        """Signs out for good: sessions, links and projects go, the user's keys are revoked. Raises NotFound."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> User:
            organization_for(actor, connection)
            user = find_user(connection, user_id, organization_of(actor))
            check_over(actor, user)
            forget_user(connection, user_id, now_ns)
            record(
                connection, now_ns=now_ns, actor=actor, event="user.deleted", target_id=user_id,
                organization_id=user.organization_id,
            )  # fmt: skip
            return find_user(connection, user_id, None, removed=True)

        return await self._and_forget(make, user_id)

    async def reset_password(self, actor: Principal | None, user_id: str) -> Link:
        """A link with which the user sets a new password within a day. The old one works until then."""
        now_ns, token = self._clock.time_ns(), new_token(RESET)

        def make(connection: Connection) -> None:
            organization_for(actor, connection)
            user = find_user(connection, user_id, organization_of(actor))
            check_over(actor, user)
            add_reset(connection, user_id, token, now_ns + RESET_LASTS_NS)
            record(
                connection, now_ns=now_ns, actor=actor, event="user.updated", target_id=user_id,
                organization_id=user.organization_id, details={"changes_requested": {"password_reset": True}},
            )  # fmt: skip

        await self._db.write(make)
        return Link(token, now_ns + RESET_LASTS_NS)

    async def invite(
        self, actor: Principal | None, email: str, role: Role, projects: tuple[tuple[str, Role], ...] | None
    ) -> tuple[Invite, Link]:
        """Invites an address; without `projects` to the organization's first one. Raises Conflict for a user's."""
        email, now_ns = check_email(email), self._clock.time_ns()
        invite_id, token = new_id("invite"), new_token(INVITE)

        def make(connection: Connection) -> Invite:
            organization_id = organization_for(actor, connection)
            if list_users(connection, None, emails=[email], limit=1):
                raise Conflict("There is a user with this email already", "Change that one, or give another email.")
            places = _places(connection, organization_id, projects, role)
            invite = Invite(invite_id, organization_id, email, role, places, now_ns, now_ns + INVITE_LASTS_NS)
            add_invite(connection, invite, token)
            record(
                connection, now_ns=now_ns, actor=actor, event="invite.sent", target_id=invite_id,
                organization_id=organization_id, details={"data": {"role": role}},
            )  # fmt: skip
            return invite

        return await self._db.write(make), Link(token, now_ns + INVITE_LASTS_NS)

    async def get_invite(self, actor: Principal | None, invite_id: str) -> Invite:
        """Raises NotFound."""

        def find(connection: Connection) -> Invite:
            organization_for(actor, connection)
            return find_invite(connection, invite_id, organization_of(actor))

        return await self._db.read(find)

    async def list_invites(self, actor: Principal | None, after: str | None = None, limit: int = 100) -> list[Invite]:
        """Oldest first, at most `limit`."""
        return await self._db.read(
            lambda connection: list_invites(connection, organization_for(actor, connection), after, limit)
        )

    async def withdraw_invite(self, actor: Principal | None, invite_id: str) -> None:
        """Raises NotFound, Conflict for one that was accepted."""
        now_ns = self._clock.time_ns()

        def make(connection: Connection) -> None:
            organization_for(actor, connection)
            invite = find_invite(connection, invite_id, organization_of(actor))
            if invite.accepted_at_ns is not None:
                raise Conflict("This invitation was accepted", "Remove the user instead.")
            delete_invite(connection, invite_id)
            record(
                connection, now_ns=now_ns, actor=actor, event="invite.deleted", target_id=invite_id,
                organization_id=invite.organization_id,
            )  # fmt: skip

        await self._db.write(make)

    async def _and_forget(self, make: Callable[[Connection], User], user_id: str) -> User:
        try:
            return await self._db.write(make)
        finally:
            # Also when the waiting task is cancelled, for then the write is done all the same.
            self._authentication.forget(user_id)


def forget_user(connection: Connection, user_id: str, now_ns: int) -> None:
    """Takes away all a user could sign in with or call with."""
    end_sessions(connection, sessions.c.user_id == user_id)
    connection.execute(password_resets.delete().where(password_resets.c.user_id == user_id))
    close_projects(connection, user_id)
    for key in list_keys(connection, None, keys.c.user_id == user_id):
        revoke_key(connection, key.id, now_ns)
    remove_user(connection, user_id, now_ns)


def _places(
    connection: Connection, organization_id: str, asked: tuple[tuple[str, Role], ...] | None, role: Role
) -> tuple[tuple[str, Role], ...]:
    """The projects to open. Raises NotFound for another organization's or an archived one."""
    if asked is None:
        first = list_projects(connection, organization_id, archived=False, limit=1)
        return tuple((project.id, role) for project in first)
    for project_id, _ in asked:
        project = find_project(connection, project_id)
        if project.organization_id != organization_id or project.archived_at_ns is not None:
            raise NotFound("project", project_id)
    return tuple(dict(asked).items())


def _added(connection: Connection, actor: Principal | None, user: User, now_ns: int) -> None:
    record(
        connection, now_ns=now_ns, actor=actor, event="user.added", target_id=user.id,
        organization_id=user.organization_id, details={"data": {"role": user.role}},
    )  # fmt: skip
