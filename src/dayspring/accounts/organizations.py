"""The installation, its organizations and their projects."""

import msgspec
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Integer,
    String,
    Table,
    UniqueConstraint,
    select,
    update,
)

from dayspring.accounts.budgets import ORGANIZATION, PROJECT, open_budget
from dayspring.core.errors import Conflict, InvalidRequest, NotFound
from dayspring.store.schema import metadata
from dayspring.store.statements import insert_if_new

__all__ = [
    "Organization", "Project", "add_organization", "add_project", "change_project", "claim_installation", "currency_of",
    "find_organization", "find_project", "first_project", "installation", "list_organizations", "list_projects",
    "organizations", "projects",
]  # fmt: skip

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("currency", String(3), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="only_one"),
)

organizations = Table(
    "organizations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", ForeignKey("organizations.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("archived_at_ns", BigInteger),
    UniqueConstraint("organization_id", "name"),
)


class Project(msgspec.Struct, frozen=True):
    id: str
    organization_id: str
    name: str
    created_at_ns: int
    archived_at_ns: int | None = None


class Organization(msgspec.Struct, frozen=True):
    id: str
    name: str
    created_at_ns: int


def currency_of(connection: Connection) -> str | None:
    """The installation's currency; None before the first start."""
    found: str | None = connection.execute(select(installation.c.currency)).scalar_one_or_none()
    return found


def claimed_at(connection: Connection) -> int | None:
    """When the installation was made (Unix ns), which tells it from any other; None before the first start."""
    found: int | None = connection.execute(select(installation.c.created_at_ns)).scalar_one_or_none()
    return found


def claim_installation(connection: Connection, currency: str, now_ns: int) -> bool:
    """Whether this call made the installation's one row. Of several at once, exactly one hears True."""
    row = {"id": 1, "currency": currency, "created_at_ns": now_ns}
    return insert_if_new(connection, installation, row)


def add_organization(connection: Connection, organization_id: str, name: str, now_ns: int) -> None:
    check_name("An organization", name)
    connection.execute(organizations.insert(), {"id": organization_id, "name": name, "created_at_ns": now_ns})
    open_budget(connection, organization_id, ORGANIZATION)


def find_organization(connection: Connection, organization_id: str) -> Organization:
    """Raises NotFound."""
    query = select(organizations).where(organizations.c.id == organization_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("organization", organization_id)
    return Organization(**row)


def list_organizations(connection: Connection) -> list[Organization]:
    """All, oldest first: the first is the operator's."""
    rows = connection.execute(select(organizations).order_by(organizations.c.id)).mappings()
    return [Organization(**row) for row in rows]


def add_project(connection: Connection, project: Project) -> None:
    """Raises Conflict for a name the organization has already, InvalidRequest for none."""
    check_name("A project", project.name)
    if not insert_if_new(connection, projects, msgspec.structs.asdict(project)):
        raise Conflict(f"There is a project named {project.name!r} already", "Choose another name.")
    open_budget(connection, project.id, PROJECT)


def change_project(connection: Connection, project_id: str, **values: object) -> None:
    """Sets columns of a project that is there. Raises Conflict for a name the organization has already."""
    name = values.get("name")
    if name is not None:
        check_name("A project", str(name))
        organization = select(projects.c.organization_id).where(projects.c.id == project_id).scalar_subquery()
        taken = select(projects.c.id).where(
            projects.c.organization_id == organization, projects.c.name == name, projects.c.id != project_id
        )
        if connection.execute(taken).first():
            raise Conflict(f"There is a project named {name!r} already", "Choose another name.")
    connection.execute(update(projects).where(projects.c.id == project_id).values(**values))


def check_name(what: str, name: str) -> None:
    """Raises InvalidRequest."""
    if not name.strip() or len(name) > 200:
        raise InvalidRequest(f"{what}'s name has 1 to 200 characters. Give another.", param="name")


def find_project(connection: Connection, project_id: str) -> Project:
    """Raises NotFound."""
    row = connection.execute(select(projects).where(projects.c.id == project_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("project", project_id)
    return Project(**row)


def first_project(connection: Connection) -> Project:
    """The one made at the first start. Raises Conflict before that."""
    found = list_projects(connection, limit=1)
    if not found:
        raise Conflict("This installation was never started", "Run 'dayspring serve' once.")
    return found[0]


def list_projects(
    connection: Connection,
    organization_id: str | None = None,
    *,
    archived: bool = True,
    after: str | None = None,
    limit: int | None = None,
) -> list[Project]:
    """Those of one organization, or all; oldest first."""
    query = select(projects).order_by(projects.c.id).limit(limit)
    if organization_id is not None:
        query = query.where(projects.c.organization_id == organization_id)
    if not archived:
        query = query.where(projects.c.archived_at_ns.is_(None))
    if after is not None:
        query = query.where(projects.c.id > after)
    return [Project(**row) for row in connection.execute(query).mappings()]
