"""How long a project's kept things stay, and how many bytes of disk it may fill. Nothing set: forever, any number."""

from collections.abc import Mapping

from sqlalchemy import BigInteger, Column, Connection, ForeignKey, Integer, String, Table, delete, select

from dayspring.core.errors import InvalidRequest
from dayspring.store.schema import metadata

__all__ = [
    "DAY_NS", "list_retention", "quota_of", "quotas", "retention_of", "retention_table", "set_quota", "set_retention",
]  # fmt: skip

DAY_NS = 86_400 * 10**9
_LONGEST_DAYS = 36_500
_LONGEST_KIND = 32
MAX_BYTES = 2**62

retention_table = Table(
    "retention",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("kind", String(_LONGEST_KIND), primary_key=True),
    Column("days", Integer, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("limit_bytes", BigInteger, nullable=False),
)


def retention_of(connection: Connection, project_id: str) -> dict[str, int]:
    """Days by kind (`responses`, `files`, ...); what is not named is kept."""
    query = select(retention_table.c.kind, retention_table.c.days).where(retention_table.c.project_id == project_id)
    return {row.kind: row.days for row in connection.execute(query)}


def list_retention(connection: Connection) -> list[tuple[str, str, int]]:
    """Project, kind and days, of every project."""
    query = select(retention_table).order_by(retention_table.c.project_id, retention_table.c.kind)
    return [(row.project_id, row.kind, row.days) for row in connection.execute(query)]


def set_retention(connection: Connection, project_id: str, days: Mapping[str, int | None]) -> None:
    """Sets the kinds named; None keeps that kind forever. Raises InvalidRequest."""
    for kind, value in days.items():
        if value is not None and not 1 <= value <= _LONGEST_DAYS:
            raise InvalidRequest(f"Things are kept 1 to {_LONGEST_DAYS} days, or null for ever.", param=kind)
    for kind, value in days.items():
        place = (retention_table.c.project_id == project_id, retention_table.c.kind == kind)
        connection.execute(delete(retention_table).where(*place))
        if value is not None:
            connection.execute(retention_table.insert(), {"project_id": project_id, "kind": kind, "days": value})


def quota_of(connection: Connection, project_id: str) -> int | None:
    """Bytes; None for no limit."""
    query = select(quotas.c.limit_bytes).where(quotas.c.project_id == project_id)
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def set_quota(connection: Connection, project_id: str, limit_bytes: int | None) -> None:
    """What is stored already stays, even above it. Raises InvalidRequest."""
    if limit_bytes is not None and not 0 <= limit_bytes <= MAX_BYTES:
        raise InvalidRequest(f"A quota is 0 to {MAX_BYTES} bytes, or null for none.", param="limit_bytes")
    connection.execute(delete(quotas).where(quotas.c.project_id == project_id))
    if limit_bytes is not None:
        connection.execute(quotas.insert(), {"project_id": project_id, "limit_bytes": limit_bytes})
