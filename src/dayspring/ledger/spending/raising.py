"""Raising spend alerts, in the transaction of the charge that reaches them.

What holds: the caller has the budget's row locked, so of any number of charges at once exactly one raises an alert, and
a charge that is rolled back raises none. The webhook's outbox is written in the same transaction.
What it does not do: look at every charge. `budgets.alert_at_nanos` says from which spending on there is something to
look at; whatever may move that sets it to 0.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select, update

from dayspring.accounts.budgets import ORGANIZATION, budgets
from dayspring.accounts.webhooks.outbox import put
from dayspring.core.ids import new_id
from dayspring.ledger.spending.alerts import EVENT, SOFT_LIMIT, Raised, alerts_of, spend_alerts_raised
from dayspring.store.statements import insert_if_new

__all__ = ["raise_due"]


def raise_due(connection: Connection, owner_id: str, at_ns: int, organization_id: str, project_id: str) -> list[Raised]:
    """Raises every alert whose amount is spent and that was not raised in this period, and notes which is next."""
    budget = connection.execute(select(budgets).where(budgets.c.owner_id == owner_id)).one()
    spent = budget.spent_nanos - budget.base_nanos
    amounts = _amounts(connection, budget)
    before = select(spend_alerts_raised.c.alert_id, spend_alerts_raised.c.threshold_nanos).where(
        spend_alerts_raised.c.owner_id == owner_id, spend_alerts_raised.c.period_start_ns == budget.period_start_ns
    )
    known = {(row.alert_id, row.threshold_nanos) for row in connection.execute(before)}
    raised = []
    for alert_id, amount, percent in amounts:
        if amount <= spent and (alert_id, amount) not in known:
            raised.append(
                Raised(
                    new_id("raised"), alert_id, owner_id, budget.level, organization_id,
                    "" if budget.level == ORGANIZATION else project_id, budget.period, budget.period_start_ns, amount,
                    percent, spent, budget.limit_nanos, at_ns,
                )
            )  # fmt: skip
    for one in raised:
        if insert_if_new(connection, spend_alerts_raised, msgspec.structs.asdict(one)):
            put(connection, one.organization_id, one.project_id, EVENT, msgspec.to_builtins(one), at_ns)
    ahead = [amount for _, amount, _ in amounts if amount > spent]
    next_at = budget.base_nanos + min(ahead) if ahead else None
    connection.execute(update(budgets).where(budgets.c.owner_id == owner_id).values(alert_at_nanos=next_at))
    return raised


def _amounts(connection: Connection, budget: Row[Any]) -> list[tuple[str, int, int | None]]:
    """Id, amount and share of each alert that stands for an amount."""
    found = [(alert.id, alert.amount_nanos(budget.limit_nanos), alert.threshold_percent)
             for alert in alerts_of(connection, budget.owner_id)]  # fmt: skip
    found.append((SOFT_LIMIT, budget.soft_limit_nanos, None))
    return [(alert_id, amount, percent) for alert_id, amount, percent in found if amount is not None]
