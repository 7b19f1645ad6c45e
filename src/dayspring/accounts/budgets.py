"""Budgets: what an organization, a project or a key may spend, in all or in a period, and the running totals beside it.

Each of the three has one row from the moment it is made. The limits and the period are set here; `spent_nanos`,
`held_nanos` and where a period began are a projection of the ledger, which alone moves them, in the transaction of the
entries they follow from (`ledger.verification` recomputes them). A NULL limit is no limit.

What holds: what counts against a limit is `spent_nanos - base_nanos`, the spending since the period began; a period
that is over and was not charged since is empty, whether or not its row says so yet.
"""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, CheckConstraint, Column, Connection, Row, SmallInteger, String, Table, select, update

from dayspring.accounts.periods import Period, boundaries
from dayspring.core.errors import InvalidRequest, NotFound
from dayspring.store.schema import metadata

__all__ = [
    "KEY", "ORGANIZATION", "PROJECT", "Budget", "budget_of", "budgets", "check_limit", "open_budget",
    "raise_limit", "recheck_alerts", "set_limit", "set_period", "set_soft_limit",
]  # fmt: skip

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
    # In all periods.
    Column("held_nanos", BigInteger, nullable=False),
    Column("period", String(8), nullable=False, server_default="none"),
    Column("period_start_ns", BigInteger, nullable=False, server_default="0"),
    Column("period_end_ns", BigInteger),
    # The first nanosecond of the next one; NULL: it never ends.
    Column("base_nanos", BigInteger, nullable=False, server_default="0"),
    # What `spent_nanos` was when the period began.
    Column("soft_limit_nanos", BigInteger),
    Column("alert_at_nanos", BigInteger),
    # The `spent_nanos` at which the next alert may be due; 0: not worked out; NULL: none. See `ledger.alerts`.
    Column("charged_at_ns", BigInteger, nullable=False, server_default="0"),
    # The latest time of an entry that was charged.
    CheckConstraint("held_nanos >= 0", name="held"),
)


class Budget(msgspec.Struct, frozen=True):
    """Of an organization, a project or a key; in nano-units."""

    owner_id: str
    limit_nanos: int | None
    spent_nanos: int
    """In all periods."""
    held_nanos: int
    """Reserved by requests under way."""
    period: Period = Period.NONE
    period_spent_nanos: int = 0
    """Since the period began; what counts against the limits."""
    soft_limit_nanos: int | None = None
    resets_at_ns: int | None = None
    """When the next period begins; None: never."""
    level: int = KEY

    @property
    def left_nanos(self) -> int | None:
        return None if self.limit_nanos is None else self.limit_nanos - self.period_spent_nanos - self.held_nanos


def open_budget(connection: Connection, owner_id: str, level: int, limit_nanos: int | None = None) -> None:
    """The row of a new organization, project or key."""
    check_limit(limit_nanos)
    row = {"owner_id": owner_id, "level": level, "limit_nanos": limit_nanos, "spent_nanos": 0, "held_nanos": 0}
    connection.execute(budgets.insert(), row)


def set_limit(connection: Connection, owner_id: str, limit_nanos: int | None) -> None:
    """Replaces the limit; None removes it. What is held or spent already stays, even above it."""
    check_limit(limit_nanos)
    _change(connection, owner_id, limit_nanos=limit_nanos)


def set_soft_limit(connection: Connection, owner_id: str, soft_limit_nanos: int | None) -> None:
    """Replaces the limit that only alerts; None removes it."""
    check_limit(soft_limit_nanos)
    _change(connection, owner_id, soft_limit_nanos=soft_limit_nanos)


def set_period(connection: Connection, owner_id: str, period: Period, now_ns: int) -> None:
    """Counts by another period from now on: its first one begins now, the second where the calendar says.

    The same period again changes nothing. `none` counts everything that was ever spent.
    """
    row = _locked(connection, owner_id)
    if row.period == period:
        return
    start, base = 0, 0
    if period is not Period.NONE:
        # Another server's clock may be ahead of ours: what it has charged lies before the period that begins here.
        start, base = max(now_ns, row.charged_at_ns + 1), row.spent_nanos
    end = boundaries(period, start)[1]
    _change(connection, owner_id, period=period.value, period_start_ns=start, period_end_ns=end, base_nanos=base)


def raise_limit(connection: Connection, owner_id: str, by_nanos: int) -> int:
    """Adds to the limit and returns the new one. Raises InvalidRequest where there is none to raise."""
    row = _locked(connection, owner_id)
    if row.limit_nanos is None:
        raise InvalidRequest(f"{owner_id!r} has no budget to raise. Set one first.")
    limit: int = row.limit_nanos + by_nanos
    set_limit(connection, owner_id, limit)
    return limit


def recheck_alerts(connection: Connection, owner_id: str) -> None:
    """Has the next charge work out which alert is due. Locks the row. Raises NotFound."""
    _change(connection, owner_id)


def budget_of(connection: Connection, owner_id: str, now_ns: int) -> Budget:
    """The budget as it stands at this time. Raises NotFound."""
    row = _row(connection, owner_id)
    spent, end = row.spent_nanos - row.base_nanos, row.period_end_ns
    if end is not None and now_ns >= end:
        spent, end = 0, boundaries(Period(row.period), now_ns)[1]
    return Budget(
        owner_id, row.limit_nanos, row.spent_nanos, row.held_nanos, Period(row.period), spent, row.soft_limit_nanos,
        end, row.level,
    )  # fmt: skip


def check_limit(limit_nanos: int | None) -> None:
    """Raises InvalidRequest for a limit that cannot be kept."""
    if limit_nanos is not None and not 0 <= limit_nanos <= MAX_NANOS:
        raise InvalidRequest("A budget is between 0 and about 4.6 billion units of the currency. Give another amount.")


def _row(connection: Connection, owner_id: str) -> Row[Any]:
    row = connection.execute(select(budgets).where(budgets.c.owner_id == owner_id)).one_or_none()
    if row is None:
        raise NotFound("budget of", owner_id)
    return row


def _locked(connection: Connection, owner_id: str) -> Row[Any]:
    row = connection.execute(select(budgets).where(budgets.c.owner_id == owner_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound("budget of", owner_id)
    return row


def _change(connection: Connection, owner_id: str, **values: object) -> None:
    """Every change has the next charge look at the alerts anew: a percentage is of the limit, a period starts over."""
    statement = update(budgets).where(budgets.c.owner_id == owner_id).values(alert_at_nanos=0, **values)
    if not connection.execute(statement).rowcount:
        raise NotFound("budget of", owner_id)
