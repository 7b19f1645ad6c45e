"""Money held for requests under way.

What holds: a reservation is inserted only where, for the key, its project and its organization, what was spent in the
period + held + bound is at most the limit, in the same transaction that adds it to what is held; it is deleted exactly
once, by whoever settles, releases or recovers it, in the transaction that books the outcome. A reservation that
outlives a period counts in the next as held, and what it is charged is spent there, so no period is overdrawn.
"""

import datetime
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import BigInteger, BindParameter, Column, Connection, String, Table, bindparam, delete, select, update

from dayspring.accounts.budgets import budgets
from dayspring.accounts.periods import Period, boundaries
from dayspring.accounts.principals import Principal
from dayspring.core.errors import Defect, InsufficientQuota, InvalidRequest
from dayspring.core.money import format_amount
from dayspring.ledger.spending.charging import turn_period
from dayspring.ledger.values import ReserveRequest
from dayspring.store.schema import metadata
from dayspring.store.statements import Statement, insert_new

__all__ = ["MAX_RESERVATION_NANOS", "Reservation", "hold", "reservations", "take", "unhold"]

MAX_RESERVATION_NANOS = 2**60
"""About a billion units of the currency: sums of these stay within 64 bits."""

reservations = Table(
    "reservations",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("instance_id", String(64), nullable=False),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("model", String(200), nullable=False),
    Column("task", String(32), nullable=False),
    Column("price_version", BigInteger, nullable=False),
    Column("amount_nanos", BigInteger, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


class Reservation(msgspec.Struct, frozen=True):
    """A row, its fields in the table's order."""

    request_id: str
    instance_id: str
    organization_id: str
    project_id: str
    key_id: str
    model: str
    task: str
    price_version: int
    amount_nanos: int
    created_at_ns: int

    @property
    def owners(self) -> tuple[str, str, str]:
        """Whose budgets it counts against."""
        return self.organization_id, self.project_id, self.key_id


_THREE: tuple[BindParameter[str], ...] = (bindparam("organization"), bindparam("project"), bindparam("key"))
_lock_budgets = Statement(
    select(
        budgets.c.limit_nanos,
        budgets.c.spent_nanos,
        budgets.c.base_nanos,
        budgets.c.held_nanos,
        budgets.c.period_end_ns,
        budgets.c.period,
    )
    .where(budgets.c.owner_id.in_(_THREE))
    .order_by(budgets.c.level)
    .with_for_update(),
    "organization",
    "project",
    "key",
)
_insert = Statement(insert_new(reservations), *reservations.c.keys())
_exists = Statement(
    select(reservations.c.amount_nanos).where(reservations.c.request_id == bindparam("request_id")), "request_id"
)
_first: Callable[[tuple[int, int | None, int]], int] = itemgetter(0)
_add_held = Statement(
    update(budgets).where(budgets.c.owner_id.in_(_THREE)).values(held_nanos=budgets.c.held_nanos + bindparam("held")),
    "held",
    "organization",
    "project",
    "key",
)
_delete = Statement(
    delete(reservations).where(reservations.c.request_id == bindparam("request_id")).returning(*reservations.c),
    "request_id",
)


def hold(connection: Connection, request: ReserveRequest, instance_id: str, now_ns: int, currency: str) -> None:
    """Holds the bound. The same request twice is held once. Raises InsufficientQuota, having written nothing."""
    amount = request.amount_nanos
    if not 0 <= amount <= MAX_RESERVATION_NANOS:
        raise InvalidRequest("The request could cost more than can be counted. Ask for less.")
    who = request.principal
    owners = (who.organization_id, who.project_id, who.key_id)
    rows = _lock_budgets.all(connection, *owners)
    if len(rows) != len(owners):
        raise Defect(request.request_id)
    lefts = [(*_left(row, now_ns), place) for place, row in enumerate(rows) if row[0] is not None]
    if lefts:
        left, resets_at_ns, place = min(lefts, key=_first)
        if amount > left:
            if _exists.one(connection, request.request_id):
                return
            raise _refusal(_spelled(who, place), left, resets_at_ns, amount, currency)
    inserted = _insert.run(
        connection, request.request_id, instance_id, *owners, request.model, request.task, request.price_version,
        amount, now_ns,
    )  # fmt: skip
    if inserted.rowcount and amount:
        _add_held.run(connection, amount, *owners)
    for owner_id, (_, spent, _, _, end_ns, period) in zip(owners, rows, strict=True):
        # Now, not at the charge: else a server whose clock is behind could charge this to the period that is over.
        if end_ns is not None and now_ns >= end_ns:
            turn_period(connection, owner_id, period, now_ns, spent)


def take(connection: Connection, request_id: str) -> Reservation | None:
    """Deletes and returns the reservation; None when nothing is held. The caller books the outcome: see `unhold`."""
    row = _delete.one(connection, request_id)
    if row is None:
        return None
    held = Reservation(*row)
    if connection.dialect.name == "postgresql":
        # Before anything else is written: every server takes its locks in this order.
        _lock_budgets.all(connection, *held.owners)
    return held


def unhold(connection: Connection, reservation: Reservation) -> None:
    """Takes the reserved amount out of what is held. See also `charging.charge`."""
    if reservation.amount_nanos:
        _add_held.run(connection, -reservation.amount_nanos, *reservation.owners)


def _left(row: tuple[Any, ...], now_ns: int) -> tuple[int, int | None]:
    """What a limited budget has left, and when its next period begins. One that is over counts as a fresh one."""
    limit, spent, base, held, end_ns, period = row
    if end_ns is None:
        return limit - (spent - base) - held, None
    if now_ns < end_ns:
        return limit - (spent - base) - held, end_ns
    return limit - held, boundaries(Period(period), now_ns)[1]


def _spelled(who: Principal, place: int) -> str:
    """Whose budget it is, in the order of `owners`."""
    if place == 0:
        return f"the organization {who.organization_id}"
    if place == 1:
        return f"the project {who.project_id}"
    return f"the user {who.user_id}" if who.is_session else f"the key {who.key_id}"


def _refusal(
    owner: str, left_nanos: int, resets_at_ns: int | None, bound_nanos: int, currency: str
) -> InsufficientQuota:
    left_nanos = max(0, left_nanos)
    remedy = "Ask for less, or have the budget raised."
    if resets_at_ns is not None:
        resets = datetime.datetime.fromtimestamp(resets_at_ns // 10**9, datetime.UTC)
        remedy = f"Ask for less, wait for its reset at {resets:%Y-%m-%d %H:%M} UTC, or have the budget raised."
    return InsufficientQuota(
        owner=owner,
        left=format_amount(left_nanos, currency),
        bound=format_amount(bound_nanos, currency),
        remedy=remedy,
        left_nanos=left_nanos,
    )
