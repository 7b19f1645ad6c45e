"""What a request is charged, moved from held to spent, and the turn of a budget's period.

What holds: an entry's time lies in the period it counts in, for each of the three budgets, whatever the clocks of
several servers say: it is booked no earlier than the period's begin, and a period that is over is turned first. So the
spending before a period is the sum of the entries before its begin, and can be recomputed.
"""

from typing import NamedTuple

from sqlalchemy import BindParameter, Connection, bindparam, case, update

from dayspring.accounts.budgets import budgets
from dayspring.accounts.periods import Period, boundaries
from dayspring.core.errors import Defect
from dayspring.ledger.spending.alerts import Raised
from dayspring.ledger.spending.raising import raise_due
from dayspring.store.statements import Statement

__all__ = ["Charged", "charge", "turn_period"]

Owners = tuple[str, str, str]

_THREE: tuple[BindParameter[str], ...] = (bindparam("organization"), bindparam("project"), bindparam("key"))
_charge = Statement(
    update(budgets)
    .where(budgets.c.owner_id.in_(_THREE))
    .values(
        held_nanos=budgets.c.held_nanos - bindparam("reserved"),
        spent_nanos=budgets.c.spent_nanos + bindparam("charged"),
        charged_at_ns=case((budgets.c.charged_at_ns < bindparam("at"), bindparam("at")), else_=budgets.c.charged_at_ns),
    )
    .returning(
        budgets.c.owner_id,
        budgets.c.spent_nanos,
        budgets.c.period_start_ns,
        budgets.c.period_end_ns,
        budgets.c.period,
        budgets.c.alert_at_nanos,
    ),
    "reserved",
    "charged",
    "at",
    "organization",
    "project",
    "key",
)


class Charged(NamedTuple):
    booked_at_ns: int
    """The time of the entry."""
    raised: list[Raised]
    """Alerts that this charge has raised."""


def charge(connection: Connection, owners: Owners, reserved_nanos: int, charged_nanos: int, now_ns: int) -> Charged:
    """Lets go of the reserved amount and spends what is charged. Call it before the entry is posted."""
    rows = _charge.all(connection, reserved_nanos, charged_nanos, now_ns, *owners)
    if len(rows) != len(owners):
        raise Defect(owners[-1])
    at_ns = max(now_ns, *(row[2] for row in rows))
    raised: list[Raised] = []
    for owner_id, spent, _, end_ns, period, alert_at in rows:
        turned = end_ns is not None and at_ns >= end_ns
        if turned:
            turn_period(connection, owner_id, period, at_ns, spent - charged_nanos)
        if turned or (alert_at is not None and spent >= alert_at):
            raised += raise_due(connection, owner_id, at_ns, owners[0], owners[1])
    if at_ns > now_ns:
        earlier = budgets.c.owner_id.in_(owners) & (budgets.c.charged_at_ns < at_ns)
        connection.execute(update(budgets).where(earlier).values(charged_at_ns=at_ns))
    return Charged(at_ns, raised)


def turn_period(connection: Connection, owner_id: str, period: str, at_ns: int, base_nanos: int) -> None:
    """Begins the period that holds this time, with nothing spent in it. `base_nanos` is what was spent until now."""
    start, end = boundaries(Period(period), at_ns)
    values = {"period_start_ns": start, "period_end_ns": end, "base_nanos": base_nanos, "alert_at_nanos": 0}
    connection.execute(update(budgets).where(budgets.c.owner_id == owner_id).values(values))
