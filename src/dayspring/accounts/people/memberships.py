"""Which projects are open to a user, and in which role."""

import msgspec
from sqlalchemy import BigInteger, Column, Connection, ForeignKey, Index, String, Table, delete, select

from dayspring.accounts.organizations import projects
from dayspring.accounts.people.roles import Role
from dayspring.accounts.people.users import User, users
from dayspring.store.schema import metadata

__all__ = ["Membership", "close_projects", "list_members", "open_project", "project_members", "projects_of"]

project_members = Table(
    "project_members",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("added_at_ns", BigInteger, nullable=False),
    Index(None, "user_id"),
)


class Membership(msgspec.Struct, frozen=True):
    project_id: str
    user_id: str
    role: Role
    added_at_ns: int
    email: str
    name: str


def open_project(connection: Connection, project_id: str, user_id: str, role: Role, now_ns: int) -> None:
    """Gives the role in the project; replaces the one before, whose time stands."""
    place = (project_members.c.project_id == project_id, project_members.c.user_id == user_id)
    before = connection.execute(
        delete(project_members).where(*place).returning(project_members.c.added_at_ns)
    ).scalar_one_or_none()
    row = {"project_id": project_id, "user_id": user_id, "role": role, "added_at_ns": before or now_ns}
    connection.execute(project_members.insert(), row)


def close_projects(connection: Connection, user_id: str, project_id: str | None = None) -> bool:
    """Takes the user out of one project, or of all. Whether there was anything to take."""
    where = [project_members.c.user_id == user_id]
    if project_id is not None:
        where.append(project_members.c.project_id == project_id)
    return bool(connection.execute(delete(project_members).where(*where)).rowcount)


def list_members(
    connection: Connection, project_id: str, *, user_id: str | None = None, after: str | None = None, limit: int = 100
) -> list[Membership]:
    """The project's people, by the id of the user."""
    columns = [project_members.c[name] for name in ("project_id", "user_id", "role", "added_at_ns")]
    query = (
        select(*columns, users.c.email, users.c.name)
        .join(users, users.c.id == project_members.c.user_id)
        .where(project_members.c.project_id == project_id, users.c.removed_at_ns.is_(None))
        .order_by(project_members.c.user_id)
        .limit(limit)
    )
    if user_id is not None:
        query = query.where(project_members.c.user_id == user_id)
    if after is not None:
        query = query.where(project_members.c.user_id > after)
    return [Membership(**dict(row) | {"role": Role(row["role"])}) for row in connection.execute(query).mappings()]


def projects_of(connection: Connection, user: User) -> list[tuple[str, str, Role]]:
    """Id, name and role of each project that was opened to the user and is not archived, oldest first."""
    query = (
        select(projects.c.id, projects.c.name, project_members.c.role)
        .join(project_members, project_members.c.project_id == projects.c.id)
        .where(project_members.c.user_id == user.id, projects.c.archived_at_ns.is_(None))
        .order_by(projects.c.id)
    )
    return [(row.id, row.name, Role(row.role)) for row in connection.execute(query)]
