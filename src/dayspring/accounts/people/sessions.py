"""Sessions: what a person holds after signing in. An opaque token, kept as a digest, that ends by itself.

What holds: a session ends when it was idle for too long, at a fixed time whatever happens, when it is revoked, and with
its user. Use is noted at most once in `NOTED_S`, so idle time is exact to that.
"""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Index,
    LargeBinary,
    RowMapping,
    String,
    Table,
    delete,
    select,
    update,
)

from dayspring.accounts.credentials import Credential
from dayspring.accounts.organizations import list_projects, projects
from dayspring.accounts.people.memberships import project_members, projects_of
from dayspring.accounts.people.roles import Role, scopes_of
from dayspring.accounts.people.tokens import digest_of, matches, prefix_of
from dayspring.accounts.people.users import User, users
from dayspring.accounts.principals import Principal, Scope
from dayspring.core.errors import NotFound
from dayspring.store.schema import metadata

__all__ = [
    "NOTED_S", "Session", "add_session", "check_project", "end_sessions", "find_session", "list_sessions", "note_use",
    "principal_of_user", "sessions",
]  # fmt: skip

NOTED_S = 60

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("project_id", String(64), nullable=False),
    # The project chosen at sign-in; empty: none is open to the user.
    Column("prefix", String(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("address", String(64), nullable=False),
    Column("user_agent", String(200), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("seen_at_ns", BigInteger, nullable=False),
    Column("idle_ns", BigInteger, nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
    Index(None, "prefix", unique=True),
    Index(None, "user_id"),
    Index(None, "expires_at_ns"),
)


class Session(msgspec.Struct, frozen=True):
    """What may be shown of a session: everything but its secret."""

    id: str
    user_id: str
    project_id: str
    address: str
    user_agent: str
    created_at_ns: int
    seen_at_ns: int
    """Last noted use."""
    idle_ns: int
    expires_at_ns: int

    @property
    def ends_at_ns(self) -> int:
        """When it ends if it is not used again."""
        return min(self.expires_at_ns, self.seen_at_ns + self.idle_ns)


_SHOWN = [sessions.c[name] for name in Session.__struct_fields__]


def add_session(connection: Connection, session: Session, token: str) -> None:
    row = msgspec.structs.asdict(session) | {"prefix": prefix_of(token), "digest": digest_of(token)}
    connection.execute(sessions.insert(), row)


def check_project(connection: Connection, user: User, project_id: str | None) -> str:
    """The project a user works in: the one asked for, or the first that is open to them; empty where none is.

    Raises NotFound for one that is not open to them.
    """
    if user.role is Role.ADMIN or user.is_operator:
        organization_id = None if user.is_operator and project_id else user.organization_id
        found = [project.id for project in list_projects(connection, organization_id, archived=False)]
    else:
        found = [identifier for identifier, _, _ in projects_of(connection, user)]
    if project_id is None:
        return found[0] if found else ""
    if project_id not in found:
        raise NotFound("project", project_id)
    return project_id


def find_session(connection: Connection, token: str, project_id: str | None) -> Credential | None:
    """What this token lets its bearer do, in the session's project or the one named; None for a stranger's.

    Raises NotFound for a project that is not open to the user.
    """
    query = (
        select(sessions, *(users.c[name].label(f"user_{name}") for name in ("organization_id", "role", "is_operator")))
        .join(users, users.c.id == sessions.c.user_id)
        .where(sessions.c.prefix == prefix_of(token), users.c.removed_at_ns.is_(None))
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None or not matches(token, row["digest"]):
        return None
    session = Session(**{name: row[name] for name in Session.__struct_fields__})
    principal = _principal(connection, row, project_id)
    return Credential(
        principal=principal,
        ends_at_ns=session.ends_at_ns,
        owners=(session.id, session.user_id, principal.project_id, principal.organization_id),
        seen_at_ns=session.seen_at_ns,
    )


def principal_of_user(connection: Connection, user_id: str, project_id: str) -> Principal | None:
    """What a person may do in a project, signed in or not: for work that goes on after they left. None for no user."""
    names = ("id", "organization_id", "role", "is_operator")
    query = select(*(users.c[name].label(f"user_{name}") for name in names))
    row = connection.execute(query.where(users.c.id == user_id, users.c.removed_at_ns.is_(None))).mappings().first()
    if row is None:
        return None
    try:
        return _principal(connection, row, project_id)
    except NotFound:
        return None


def _principal(connection: Connection, row: RowMapping, wanted: str | None) -> Principal:
    project_id, user_id = wanted or row["project_id"], row["user_id"]
    place = select(projects.c.organization_id, project_members.c.role).outerjoin(
        project_members, (project_members.c.project_id == projects.c.id) & (project_members.c.user_id == user_id)
    )
    found = connection.execute(place.where(projects.c.id == project_id, projects.c.archived_at_ns.is_(None))).first()
    role, organization_id = Role(row["user_role"]), row["user_organization_id"]
    scopes: frozenset[str] = frozenset()
    if found is not None and (found.organization_id == organization_id or row["user_is_operator"]):
        in_project = None if found.role is None else Role(found.role)
        scopes = scopes_of(role, in_project, is_operator=row["user_is_operator"])
        organization_id = found.organization_id if scopes else organization_id
    if wanted is not None and not scopes:
        raise NotFound("project", wanted)
    if not scopes:  # no project is open, or no more: what the role gives without one
        project_id = ""
        managing = scopes_of(role, None, is_operator=row["user_is_operator"])
        scopes = managing & {Scope.MANAGE, Scope.ADMIN}
    sees_cost = bool(scopes & {Scope.PROJECT, Scope.MANAGE, Scope.ADMIN})
    return Principal(organization_id, project_id, user_id, scopes, None, sees_cost, user_id)


def list_sessions(connection: Connection, user_id: str, now_ns: int) -> list[Session]:
    """Those that have not ended, oldest first."""
    query = select(*_SHOWN).where(sessions.c.user_id == user_id).order_by(sessions.c.id)
    found = [Session(**row) for row in connection.execute(query).mappings()]
    return [session for session in found if now_ns < session.ends_at_ns]


def note_use(connection: Connection, session_id: str, now_ns: int) -> None:
    connection.execute(
        update(sessions).where(sessions.c.id == session_id, sessions.c.seen_at_ns < now_ns).values(seen_at_ns=now_ns)
    )


def end_sessions(connection: Connection, *where: ColumnElement[bool]) -> list[str]:
    """Deletes sessions; their ids."""
    return list(connection.execute(delete(sessions).where(*where).returning(sessions.c.id)).scalars())
