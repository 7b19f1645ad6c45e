"""Spend alerts: what someone wants to hear about, and what was raised.

An alert names an amount, or a share of the budget's limit. It is raised once in each period of that budget and for each
amount it stands for: a limit that is changed moves the shares, so they may be raised again. A budget's soft limit is an
alert without a row of its own.
"""

import logging

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, SmallInteger, String, Table, UniqueConstraint, select

from dayspring.store.schema import metadata

__all__ = ["EVENT", "SOFT_LIMIT", "Alert", "Raised", "alerts_of", "log_raised", "spend_alerts", "spend_alerts_raised"]

_log = logging.getLogger(__name__)

SOFT_LIMIT = "soft_limit"
"""The `alert_id` of what a budget's soft limit has raised."""

EVENT = "spend_alert.raised"
"""The type of its webhook."""

spend_alerts = Table(
    "spend_alerts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner_id", String(64), nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    # Empty for an alert of the organization.
    Column("threshold_nanos", BigInteger),
    Column("threshold_percent", SmallInteger),
    # Of the budget's limit. One of the two is set.
    Column("created_at_ns", BigInteger, nullable=False),
    Index(None, "owner_id"),
)

spend_alerts_raised = Table(
    "spend_alerts_raised",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("alert_id", String(64), nullable=False),
    Column("owner_id", String(64), nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("period", String(8), nullable=False),
    Column("period_start_ns", BigInteger, nullable=False),
    Column("threshold_nanos", BigInteger, nullable=False),
    Column("threshold_percent", SmallInteger),
    Column("spent_nanos", BigInteger, nullable=False),
    Column("limit_nanos", BigInteger),
    Column("raised_at_ns", BigInteger, nullable=False),
    UniqueConstraint("owner_id", "alert_id", "period_start_ns", "threshold_nanos", name="uq_spend_alerts_raised_once"),
    Index(None, "organization_id", "id"),
)


class Alert(msgspec.Struct, frozen=True):
    """A row, its fields in the table's order."""

    id: str
    owner_id: str
    level: int
    organization_id: str
    project_id: str
    threshold_nanos: int | None
    threshold_percent: int | None
    created_at_ns: int

    def amount_nanos(self, limit_nanos: int | None) -> int | None:
        """The spending that raises it; None where it is a share of a limit that is not set."""
        if self.threshold_percent is None:
            return self.threshold_nanos
        return None if limit_nanos is None else max(1, -(-limit_nanos * self.threshold_percent // 100))


class Raised(msgspec.Struct, frozen=True):
    """A row, its fields in the table's order."""

    id: str
    alert_id: str
    owner_id: str
    level: int
    organization_id: str
    project_id: str
    period: str
    period_start_ns: int
    threshold_nanos: int
    threshold_percent: int | None
    spent_nanos: int
    """In the period, after the charge that raised it."""
    limit_nanos: int | None
    raised_at_ns: int


def alerts_of(connection: Connection, owner_id: str) -> list[Alert]:
    """Oldest first."""
    query = select(spend_alerts).where(spend_alerts.c.owner_id == owner_id).order_by(spend_alerts.c.id)
    return [Alert(*row) for row in connection.execute(query)]


def log_raised(raised: Raised) -> None:
    """A line in the log."""
    facts = ("alert_id", "owner_id", "period", "threshold_nanos", "spent_nanos", "limit_nanos")
    _log.warning("a spend alert was raised", extra={name: getattr(raised, name) for name in facts})
