"""Rate limits and spend limits over HTTP: OpenAI's for projects and the organization, and the same for keys."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from msgspec import UNSET
from pydantic import BaseModel, ConfigDict, Field

from dayspring.accounts.limiting import BudgetChange, Limiting, Overview, RateChange
from dayspring.accounts.owners import Ref
from dayspring.accounts.periods import Period
from dayspring.core.errors import InvalidRequest, NotFound
from dayspring.server.places import OBJECTS, PLACES, check_currency, nanos_of, whole_cents
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["Interval", "router"]

router = APIRouter(tags=["Limits"])

Interval = Literal["none", "day", "week", "month"]

_S = 10**9
_MOST = 2**62


class RateLimit(BaseModel):
    """Limits on rate of one organization, project or key, for all models together. null: no limit."""

    id: str
    object: str
    model: Literal["*"] = "*"
    max_requests_per_1_minute: int | None
    max_tokens_per_1_minute: int | None
    max_concurrent_requests: int | None


class RateLimitList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RateLimit]
    first_id: str
    last_id: str
    has_more: Literal[False] = False


class RateLimitBody(BaseModel):
    """What is left out stays; null lifts the limit."""

    model_config = ConfigDict(extra="forbid")

    max_requests_per_1_minute: int | None = Field(None, ge=1)
    max_tokens_per_1_minute: int | None = Field(None, ge=1)
    max_concurrent_requests: int | None = Field(None, ge=1)


class Enforcement(BaseModel):
    status: Literal["inactive", "enforcing"]
    """`enforcing`: nothing is left."""


class SpendLimit(BaseModel):
    """A budget. Amounts are hundredths of the currency's unit, rounded down; `_nanos` have them exactly."""

    object: str
    currency: str
    interval: Interval
    threshold_amount: int | None
    enforcement: Enforcement
    threshold_nanos: int | None
    soft_threshold_nanos: int | None
    spent_nanos: int
    """In this interval."""
    held_nanos: int
    resets_at: int | None


class SpendLimitBody(BaseModel):
    """Replaces the budget. A soft threshold alone only alerts; one that is left out stays."""

    model_config = ConfigDict(extra="forbid")

    currency: str
    interval: Interval
    threshold_amount: int | None = Field(None, ge=0, le=10**11)
    threshold_nanos: int | None = Field(None, ge=0, le=_MOST)
    soft_threshold_amount: int | None = Field(None, ge=0, le=10**11)
    soft_threshold_nanos: int | None = Field(None, ge=0, le=_MOST)


class SpendLimitDeleted(BaseModel):
    object: str
    deleted: Literal[True] = True


def _rate_limit(seen: Overview) -> RateLimit:
    rates = seen.rates
    return RateLimit(
        id=f"rl_{seen.owner.id}",
        object=f"{OBJECTS[seen.owner.level]}.rate_limit",
        max_requests_per_1_minute=rates.requests_per_minute,
        max_tokens_per_1_minute=rates.tokens_per_minute,
        max_concurrent_requests=rates.concurrency,
    )


def _spend_limit(seen: Overview, currency: str) -> SpendLimit:
    budget = seen.budget
    over = budget.left_nanos is not None and budget.left_nanos <= 0
    return SpendLimit(
        object=f"{OBJECTS[seen.owner.level]}.spend_limit",
        currency=currency,
        interval=budget.period.value,
        threshold_amount=whole_cents(budget.limit_nanos),
        enforcement=Enforcement(status="enforcing" if over else "inactive"),
        threshold_nanos=budget.limit_nanos,
        soft_threshold_nanos=budget.soft_limit_nanos,
        spent_nanos=budget.period_spent_nanos,
        held_nanos=budget.held_nanos,
        resets_at=None if budget.resets_at_ns is None else budget.resets_at_ns // _S,
    )


def _limiting(request: Request) -> Limiting:
    found: Limiting = request.app.state.house.limiting
    return found


def _currency(request: Request) -> str:
    found: str = request.app.state.settings.currency
    return found


def _rates(prefix: str, place: Any) -> None:
    where = Annotated[Ref, Depends(place)]

    @router.get(f"{prefix}/rate_limits")
    async def list_rate_limits(request: Request, caller: Actor, ref: where) -> RateLimitList:
        """The limits on rate: one entry, for all models together."""
        found = _rate_limit(await _limiting(request).get(caller, ref))
        return RateLimitList(data=[found], first_id=found.id, last_id=found.id)

    @router.post(f"{prefix}/rate_limits/{{rate_limit_id}}", openapi_extra=documented(RateLimitBody))
    async def update_rate_limit(rate_limit_id: str, request: Request, caller: Actor, ref: where) -> RateLimit:
        """Sets limits on rate. They hold at once here, and within a second on other servers."""
        body = await read_body(request, RateLimitBody)
        names = ("requests_per_minute", "tokens_per_minute", "concurrency")
        fields = ("max_requests_per_1_minute", "max_tokens_per_1_minute", "max_concurrent_requests")
        sent = {
            name: getattr(body, field)
            for name, field in zip(names, fields, strict=True)
            if field in body.model_fields_set
        }
        limiting = _limiting(request)
        seen = await limiting.get(caller, ref)
        if rate_limit_id != f"rl_{seen.owner.id}":
            raise NotFound("rate limit", rate_limit_id[:64])
        return _rate_limit(await limiting.set_rates(caller, ref, RateChange(**sent)))


def _spending(prefix: str, place: Any) -> None:
    where = Annotated[Ref, Depends(place)]

    @router.get(f"{prefix}/spend_limit")
    async def get_spend_limit(request: Request, caller: Actor, ref: where) -> SpendLimit:
        """The budget and where it stands."""
        seen = await _limiting(request).get(caller, ref)
        if seen.budget.limit_nanos is None and seen.budget.soft_limit_nanos is None:
            raise NotFound("spend limit of", seen.owner.id, "POST one.")
        return _spend_limit(seen, _currency(request))

    @router.post(f"{prefix}/spend_limit", openapi_extra=documented(SpendLimitBody))
    async def update_spend_limit(request: Request, caller: Actor, ref: where) -> SpendLimit:
        """Sets the budget. Another interval begins now, with nothing spent in it."""
        body = await read_body(request, SpendLimitBody)
        check_currency(body.currency, _currency(request))
        hard = nanos_of(body.threshold_amount, body.threshold_nanos, "threshold_amount")
        soft = nanos_of(body.soft_threshold_amount, body.soft_threshold_nanos, "soft_threshold_amount")
        if hard is None and soft is None:
            raise InvalidRequest("There is no threshold. Send threshold_amount.", param="threshold_amount")
        change = BudgetChange(
            limit_nanos=hard, soft_limit_nanos=UNSET if soft is None else soft, period=Period(body.interval)
        )
        return _spend_limit(await _limiting(request).set_budget(caller, ref, change), _currency(request))

    @router.delete(f"{prefix}/spend_limit")
    async def delete_spend_limit(request: Request, caller: Actor, ref: where) -> SpendLimitDeleted:
        """Lifts the budget, its soft threshold too. What was spent stays booked."""
        change = BudgetChange(limit_nanos=None, soft_limit_nanos=None)
        seen = await _limiting(request).set_budget(caller, ref, change)
        return SpendLimitDeleted(object=f"{OBJECTS[seen.owner.level]}.spend_limit.deleted")


for _prefix, _place in PLACES:
    _rates(_prefix, _place)
    _spending(_prefix, _place)
