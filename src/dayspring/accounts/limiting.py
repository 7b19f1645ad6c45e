"""Limits and budgets: the verbs of those who manage an organization, a project or a key."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from dayspring.accounts import audit, budgets
from dayspring.accounts.budgets import Budget
from dayspring.accounts.limits import limits_of, set_limits
from dayspring.accounts.owners import Owner, Ref, find_owner, list_owners
from dayspring.accounts.periods import Period
from dayspring.accounts.principals import Limit, Principal
from dayspring.contracts.clock import Clock
from dayspring.store.database import Database

__all__ = ["BudgetChange", "Limiting", "Overview", "RateChange"]


class RateChange(msgspec.Struct, frozen=True, kw_only=True):
    """UNSET: as it is; None: no limit."""

    requests_per_minute: int | UnsetType | None = UNSET
    tokens_per_minute: int | UnsetType | None = UNSET
    concurrency: int | UnsetType | None = UNSET


class BudgetChange(msgspec.Struct, frozen=True, kw_only=True):
    """UNSET: as it is; None: no limit. Another period begins now, with nothing spent in it."""

    limit_nanos: int | UnsetType | None = UNSET
    soft_limit_nanos: int | UnsetType | None = UNSET
    period: Period | UnsetType = UNSET


class Overview(msgspec.Struct, frozen=True):
    owner: Owner
    rates: Limit
    budget: Budget


class Limiting:
    """`forget` is told whose limits have changed, so that this process enforces them at once; others do in a second.

    The principal is None for the terminal.
    """

    def __init__(self, db: Database, clock: Clock, forget: Callable[[str], None]) -> None:
        self._db = db
        self._clock = clock
        self._forget = forget

    async def get(self, principal: Principal | None, ref: Ref) -> Overview:
        """Raises NotFound, PermissionDenied."""
        now_ns = self._clock.time_ns()
        return await self._db.read(lambda connection: _seen(connection, find_owner(connection, principal, ref), now_ns))

    async def list(self, principal: Principal | None) -> list[Overview]:
        """Everything the caller manages."""
        now_ns = self._clock.time_ns()
        return await self._db.read(
            lambda connection: [_seen(connection, owner, now_ns) for owner in list_owners(connection, principal)]
        )

    async def set_rates(self, principal: Principal | None, ref: Ref, change: RateChange) -> Overview:
        """Raises NotFound, PermissionDenied, InvalidRequest."""
        wanted = _given(change)

        def edit(connection: Connection, owner: Owner) -> None:
            set_limits(connection, msgspec.structs.replace(_rates(connection, owner), **wanted))

        return await self._edit(principal, ref, edit, "rate_limit.updated", wanted)

    async def set_budget(self, principal: Principal | None, ref: Ref, change: BudgetChange) -> Overview:
        """Raises NotFound, PermissionDenied, InvalidRequest."""
        now_ns = self._clock.time_ns()

        def edit(connection: Connection, owner: Owner) -> None:
            if change.limit_nanos is not UNSET:
                budgets.set_limit(connection, owner.id, change.limit_nanos)
            if change.soft_limit_nanos is not UNSET:
                budgets.set_soft_limit(connection, owner.id, change.soft_limit_nanos)
            if change.period is not UNSET:
                budgets.set_period(connection, owner.id, change.period, now_ns)

        return await self._edit(principal, ref, edit, "spend_limit.updated", _given(change))

    async def _edit(
        self,
        principal: Principal | None,
        ref: Ref,
        edit: Callable[[Connection, Owner], None],
        event: str,
        wanted: dict[str, Any],
    ) -> Overview:
        now_ns = self._clock.time_ns()

        def write(connection: Connection) -> Overview:
            owner = find_owner(connection, principal, ref, change=True)
            edit(connection, owner)
            audit.record(
                connection, now_ns=now_ns, actor=principal, event=event, target_id=owner.id,
                organization_id=owner.organization_id, project_id=owner.project_id,
                details={"changes_requested": wanted},
            )  # fmt: skip
            return _seen(connection, owner, now_ns)

        try:
            return await self._db.write(write)
        finally:
            # Also when the waiting task is cancelled, for then the write is done all the same.
            self._forget(ref.id or ("" if principal is None else principal.organization_id))


def _given(change: RateChange | BudgetChange) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}


def _rates(connection: Connection, owner: Owner) -> Limit:
    return next(iter(limits_of(connection, owner.id)), Limit(owner.id, owner.level))


def _seen(connection: Connection, owner: Owner, now_ns: int) -> Overview:
    return Overview(owner, _rates(connection, owner), budgets.budget_of(connection, owner.id, now_ns))
