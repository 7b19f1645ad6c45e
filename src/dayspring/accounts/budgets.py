"""Budgets: what an organization, a project or a key may spend at most, and the two running totals beside it.

Each of the three has one row from the moment it is made. The limit is set here; `spent_nanos` and `held_nanos` are a
projection of the ledger, which alone writes them, in the transaction of the entries they follow from
(`ledger.verification` recomputes both). A NULL limit is no limit.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Connection, SmallInteger, String, Table, select, update

from dayspring.core.errors import InvalidRequest, NotFound
from dayspring.store.schema import metadata

__all__ = [
    "KEY",
    "ORGANIZATION",
    "PROJECT",
    "budgets",
    "check_limit",
    "limit_of",
    "open_budget",
    "raise_limit",
    "set_limit",
]

ORGANIZATION, PROJECT, KEY = 0, 1, 2

MAX_NANOS = 2**62

budgets = Table(
    "budgets",
    metadata,
    Column("owner_id", String(64), primary_key=True),
    Column("level", SmallInteger, nullable=False),
    # 0 organization, 1 project, 2 key: the order in which rows are locked, so that no two servers wait for each other.
    Column("limit_nanos", BigInteger),
    Column("spent_nanos", BigInteger, nullable=False),
    Column("held_nanos", BigInteger, nullable=False),
    CheckConstraint("held_nanos >= 0", name="held"),
)


def open_budget(connection: Connection, owner_id: str, level: int, limit_nanos: int | None = None) -> None:
    """The row of a new organization, project or key."""
    check_limit(limit_nanos)
    row = {"owner_id": owner_id, "level": level, "limit_nanos": limit_nanos, "spent_nanos": 0, "held_nanos": 0}
    connection.execute(budgets.insert(), row)


def set_limit(connection: Connection, owner_id: str, limit_nanos: int | None) -> None:
    """Replaces the limit; None removes it. What is held or spent already stays, even above it."""
    check_limit(limit_nanos)
    changed = connection.execute(update(budgets).where(budgets.c.owner_id == owner_id).values(limit_nanos=limit_nanos))
    if not changed.rowcount:
        raise NotFound("budget of", owner_id)


def raise_limit(connection: Connection, owner_id: str, by_nanos: int) -> int:
    """Adds to the limit and returns the new one. Raises InvalidRequest where there is none to raise."""
    row = connection.execute(
        select(budgets.c.limit_nanos).where(budgets.c.owner_id == owner_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound("budget of", owner_id)
    if row.limit_nanos is None:
        raise InvalidRequest(f"{owner_id!r} has no budget to raise. Set one first.")
    limit: int = row.limit_nanos + by_nanos
    set_limit(connection, owner_id, limit)
    return limit


def limit_of(connection: Connection, owner_id: str) -> tuple[int | None, int, int]:
    """Limit, spent and held, in nano-units."""
    row = connection.execute(
        select(budgets.c.limit_nanos, budgets.c.spent_nanos, budgets.c.held_nanos).where(budgets.c.owner_id == owner_id)
    ).one_or_none()
    if row is None:
        raise NotFound("budget of", owner_id)
    return row.limit_nanos, row.spent_nanos, row.held_nanos


def check_limit(limit_nanos: int | None) -> None:
    """Raises InvalidRequest for a limit that cannot be kept."""
    if limit_nanos is not None and not 0 <= limit_nanos <= MAX_NANOS:
        raise InvalidRequest("A budget is between 0 and about 4.6 billion units of the currency. Give another amount.")
