"""Spend alerts: the verbs of those who manage an organization, a project or a key."""

import re
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, select, true, update

from dayspring.accounts import audit, budgets
from dayspring.accounts.budgets import Budget, budget_of
from dayspring.accounts.owners import Owner, Ref, find_owner
from dayspring.accounts.periods import Period
from dayspring.accounts.principals import Principal, Scope
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from dayspring.core.ids import new_id
from dayspring.ledger.spending.alerts import Alert, Raised, alerts_of, spend_alerts, spend_alerts_raised
from dayspring.store.database import Database

__all__ = ["AlertRequest", "Alerts", "RaisedQuery", "Standing"]

MAX_ALERTS = 20
"""Of one owner: each charge that reaches one looks at all of them."""


class AlertRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two thresholds."""

    threshold_nanos: int | None = None
    threshold_percent: int | None = None
    """Of the budget's limit, 1 to 100."""
    period: Period | None = None
    """The period it is raised once in, which is the budget's; None: whatever that is."""


class RaisedQuery(msgspec.Struct, frozen=True, kw_only=True):
    owner_id: str | None = None
    after: str | None = None
    limit: int = 20
    newest_first: bool = True


class Standing(msgspec.Struct, frozen=True):
    """An alert and the budget it watches."""

    alert: Alert
    budget: Budget


class Alerts:
    """The principal is None for the terminal."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def create(self, principal: Principal | None, ref: Ref, request: AlertRequest) -> Standing:
        """Raised with the first charge that reaches it, also one that is made below what is spent already.

        Raises NotFound, PermissionDenied, InvalidRequest, Conflict for a period that is not the budget's.
        """
        now_ns = self._clock.time_ns()
        _check(request)

        def add(connection: Connection) -> Standing:
            owner = find_owner(connection, principal, ref)
            budgets.recheck_alerts(connection, owner.id)
            if len(alerts_of(connection, owner.id)) >= MAX_ALERTS:
                raise Conflict(f"There are {MAX_ALERTS} alerts already", "Delete one, or change one.")
            self._fit_period(connection, owner, request.period, now_ns)
            alert = Alert(
                new_id("alert"), owner.id, owner.level, owner.organization_id, owner.project_id,
                request.threshold_nanos, request.threshold_percent, now_ns,
            )  # fmt: skip
            connection.execute(spend_alerts.insert(), msgspec.structs.asdict(alert))
            _record(connection, principal, "spend_alert.created", alert, now_ns)
            return Standing(alert, budget_of(connection, owner.id, now_ns))

        return await self._db.write(add)

    async def raised(self, principal: Principal | None, query: RaisedQuery) -> list[Raised]:
        """What was raised, of everything the caller manages; one more than `limit` where there are more."""
        table = spend_alerts_raised
        order = table.c.id.desc() if query.newest_first else table.c.id
        found = select(table).where(_visible(principal)).order_by(order).limit(query.limit + 1)
        if query.owner_id is not None:
            found = found.where(table.c.owner_id == query.owner_id)
        if query.after is not None:
            found = found.where(table.c.id < query.after if query.newest_first else table.c.id > query.after)
        return await self._db.read(lambda connection: [Raised(*row) for row in connection.execute(found)])

    async def list(self, principal: Principal | None, ref: Ref) -> list[Standing]:
        """Of one owner, oldest first. Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def find(connection: Connection) -> list[Standing]:
            owner = find_owner(connection, principal, ref)
            budget = budget_of(connection, owner.id, now_ns)
            return [Standing(alert, budget) for alert in alerts_of(connection, owner.id)]

        return await self._db.read(find)

    async def get(self, principal: Principal | None, ref: Ref, alert_id: str) -> Standing:
        """Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def find(connection: Connection) -> Standing:
            alert = _find(connection, find_owner(connection, principal, ref), alert_id)
            return Standing(alert, budget_of(connection, alert.owner_id, now_ns))

        return await self._db.read(find)

    async def change(self, principal: Principal | None, ref: Ref, alert_id: str, request: AlertRequest) -> Standing:
        """Another threshold. Raises as `create`, and NotFound."""
        now_ns = self._clock.time_ns()
        _check(request)

        def edit(connection: Connection) -> Standing:
            owner = find_owner(connection, principal, ref)
            alert = msgspec.structs.replace(
                _find(connection, owner, alert_id),
                threshold_nanos=request.threshold_nanos,
                threshold_percent=request.threshold_percent,
            )
            budgets.recheck_alerts(connection, owner.id)
            self._fit_period(connection, owner, request.period, now_ns)
            values = {"threshold_nanos": alert.threshold_nanos, "threshold_percent": alert.threshold_percent}
            connection.execute(update(spend_alerts).where(spend_alerts.c.id == alert.id).values(values))
            _record(connection, principal, "spend_alert.updated", alert, now_ns)
            return Standing(alert, budget_of(connection, owner.id, now_ns))

        return await self._db.write(edit)

    async def delete(self, principal: Principal | None, ref: Ref, alert_id: str) -> None:
        """What it has raised stays. Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()

        def drop(connection: Connection) -> None:
            owner = find_owner(connection, principal, ref)
            alert = _find(connection, owner, alert_id)
            budgets.recheck_alerts(connection, owner.id)
            connection.execute(delete(spend_alerts).where(spend_alerts.c.id == alert.id))
            _record(connection, principal, "spend_alert.deleted", alert, now_ns)

        await self._db.write(drop)

    def _fit_period(self, connection: Connection, owner: Owner, period: Period | None, now_ns: int) -> None:
        budget = budget_of(connection, owner.id, now_ns)
        if period is None or period is budget.period:
            return
        if budget.limit_nanos is not None or budget.soft_limit_nanos is not None or alerts_of(connection, owner.id):
            raise Conflict(
                f"The budget of {owner.id!r} counts by the period '{budget.period}', and its alerts with it",
                "Give that period, or change the budget's.",
            )
        budgets.set_period(connection, owner.id, period, now_ns)


def _check(request: AlertRequest) -> None:
    if (request.threshold_nanos is None) == (request.threshold_percent is None):
        raise InvalidRequest("An alert has an amount or a percentage of the budget's limit. Give one of the two.")
    budgets.check_limit(request.threshold_nanos)
    percent = request.threshold_percent
    if request.threshold_nanos == 0 or (percent is not None and not 1 <= percent <= 100):
        raise InvalidRequest("A threshold is over 0, and a percentage 1 to 100. Correct it.")


def _find(connection: Connection, owner: Owner, alert_id: str) -> Alert:
    if re.fullmatch(r"[\w-]{1,64}", alert_id):
        for alert in alerts_of(connection, owner.id):
            if alert.id == alert_id:
                return alert
    raise NotFound("spend alert", alert_id[:64])


def _visible(principal: Principal | None) -> ColumnElement[bool]:
    table = spend_alerts_raised
    if principal is None or principal.is_admin:
        return true()
    ours = table.c.organization_id == principal.organization_id
    if principal.may(Scope.MANAGE):
        return ours
    if principal.may(Scope.PROJECT):
        return ours & (table.c.project_id == principal.project_id)
    raise PermissionDenied("This key may not see spend alerts", "Use a key or an account that manages the project.")


def _record(connection: Connection, actor: Principal | None, event: str, alert: Alert, now_ns: int) -> None:
    details: dict[str, Any] = {
        "data": {"threshold_nanos": alert.threshold_nanos, "threshold_percent": alert.threshold_percent}
    }
    audit.record(
        connection, now_ns=now_ns, actor=actor, event=event, target_id=alert.id,
        organization_id=alert.organization_id, project_id=alert.project_id, details=details,
    )  # fmt: skip
