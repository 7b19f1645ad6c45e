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
)

from dayspring.accounts.budgets import ORGANIZATION, PROJECT, open_budget
from dayspring.core.errors import Conflict, InvalidRequest, NotFound
from dayspring.store.schema import metadata
from dayspring.store.statements import insert_if_new

__all__ = [
    "Project", "add_organization", "add_project", "claim_installation", "currency_of", "find_project",
    "first_project", "installation",
    "list_projects", "organizations", "projects",
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
    UniqueConstraint("organization_id", "name"),
)


class Project(msgspec.Struct, frozen=True):
    id: str
    organization_id: str
    name: str
    created_at_ns: int


def currency_of(connection: Connection) -> str | None:
    """The installation's currency; None before the first start."""
    found: str | None = connection.execute(select(installation.c.currency)).scalar_one_or_none()
    return found


def claim_installation(connection: Connection, currency: str, now_ns: int) -> bool:
    """Whether this call made the installation's one row. Of several at once, exactly one hears True."""
    row = {"id": 1, "currency": currency, "created_at_ns": now_ns}
    return insert_if_new(connection, installation, row)


def add_organization(connection: Connection, organization_id: str, name: str, now_ns: int) -> None:
    connection.execute(organizations.insert(), {"id": organization_id, "name": name, "created_at_ns": now_ns})
    open_budget(connection, organization_id, ORGANIZATION)


def add_project(connection: Connection, project: Project) -> None:
    """Raises Conflict for a name the organization has already, InvalidRequest for none."""
    if not project.name.strip() or len(project.name) > 200:
        raise InvalidRequest("A project's name has 1 to 200 characters. Give another.")
    if not insert_if_new(connection, projects, msgspec.structs.asdict(project)):
        raise Conflict(f"There is a project named {project.name!r} already", "Choose another name.")
    open_budget(connection, project.id, PROJECT)


def find_project(connection: Connection, project_id: str) -> Project:
    """Raises NotFound."""
    row = connection.execute(select(projects).where(projects.c.id == project_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("project", project_id)
    return Project(**row)


def first_project(connection: Connection) -> Project:
    """The one made at the first start. Raises Conflict before that."""
    found = list_projects(connection)
    if not found:
        raise Conflict("This installation was never started", "Run 'dayspring serve' once.")
    return found[0]


def list_projects(connection: Connection) -> list[Project]:
    """All, oldest first."""
    rows = connection.execute(select(projects).order_by(projects.c.id)).mappings()
    return [Project(**row) for row in rows]
