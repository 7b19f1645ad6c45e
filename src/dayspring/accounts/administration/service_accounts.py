"""Service accounts: named bearers of keys that belong to a program, not to a person. One project each."""

import msgspec
from sqlalchemy import BigInteger, Column, Connection, ForeignKey, Index, String, Table, delete, select, update

from dayspring.core.errors import InvalidRequest, NotFound
from dayspring.store.schema import metadata

__all__ = [
    "ServiceAccount", "add_service_account", "delete_service_account", "find_service_account", "list_service_accounts",
    "rename_service_account", "service_accounts",
]  # fmt: skip

service_accounts = Table(
    "service_accounts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", String(200), nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Index(None, "project_id"),
)


class ServiceAccount(msgspec.Struct, frozen=True):
    id: str
    project_id: str
    name: str
    created_at_ns: int


def add_service_account(connection: Connection, account: ServiceAccount) -> None:
    _check(account.name)
    connection.execute(service_accounts.insert(), msgspec.structs.asdict(account))


def find_service_account(connection: Connection, project_id: str, account_id: str) -> ServiceAccount:
    """Raises NotFound."""
    query = select(service_accounts).where(
        service_accounts.c.project_id == project_id, service_accounts.c.id == account_id
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("service account", account_id)
    return ServiceAccount(**row)


def list_service_accounts(
    connection: Connection, project_id: str, after: str | None = None, limit: int | None = None
) -> list[ServiceAccount]:
    """Oldest first."""
    query = select(service_accounts).where(service_accounts.c.project_id == project_id)
    if after is not None:
        query = query.where(service_accounts.c.id > after)
    rows = connection.execute(query.order_by(service_accounts.c.id).limit(limit)).mappings()
    return [ServiceAccount(**row) for row in rows]


def rename_service_account(connection: Connection, account_id: str, name: str) -> None:
    _check(name)
    connection.execute(update(service_accounts).where(service_accounts.c.id == account_id).values(name=name))


def delete_service_account(connection: Connection, account_id: str) -> None:
    connection.execute(delete(service_accounts).where(service_accounts.c.id == account_id))


def _check(name: str) -> None:
    if not name.strip() or len(name) > 200:
        raise InvalidRequest("A service account's name has 1 to 200 characters. Give another.", param="name")
