"""Spend alerts over HTTP: OpenAI's for projects and the organization, the same for keys, and what was raised."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from dayspring.accounts.owners import Ref
from dayspring.accounts.periods import Period
from dayspring.core.errors import UnsupportedParameter
from dayspring.ledger.spending.alerts import Raised
from dayspring.ledger.spending.service import AlertRequest, Alerts, RaisedQuery, Standing
from dayspring.server.limits import Interval
from dayspring.server.places import OBJECTS, PLACES, check_currency, nanos_of, whole_cents
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(tags=["Spend alerts"])

_S = 10**9


class NotificationChannel(BaseModel):
    """Alerts go to the webhook endpoints that ask for `spend_alert.raised`, to the log and to the metrics."""

    model_config = ConfigDict(extra="ignore")

    type: str = "webhook"
    recipients: list[str] = []


class SpendAlert(BaseModel):
    """Raised once in each interval. The amount is in hundredths of the currency's unit, rounded down."""

    id: str
    object: str
    currency: str
    interval: Interval
    threshold_amount: int | None
    """null: a share of a limit that is not set."""
    threshold_nanos: int | None
    threshold_percent: int | None
    notification_channel: NotificationChannel
    created_at: int


class SpendAlertList(BaseModel):
    object: Literal["list"] = "list"
    data: list[SpendAlert]
    first_id: str | None
    last_id: str | None
    has_more: bool


class SpendAlertDeleted(BaseModel):
    id: str
    object: str
    deleted: Literal[True] = True


class SpendAlertBody(BaseModel):
    """One of threshold_amount, threshold_nanos and threshold_percent (of the budget's limit)."""

    model_config = ConfigDict(extra="forbid")

    currency: str
    interval: Interval
    threshold_amount: int | None = Field(None, ge=1, le=10**11)
    threshold_nanos: int | None = Field(None, ge=1, le=2**62)
    threshold_percent: int | None = Field(None, ge=1, le=100)
    notification_channel: NotificationChannel = NotificationChannel()


class PageParameters(BaseModel):
    after: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "asc"


class SpendAlertEvent(BaseModel):
    """An alert that was raised. `alert_id` is `soft_limit` where a soft spend limit was passed."""

    id: str
    object: Literal["spend_alert.event"] = "spend_alert.event"
    alert_id: str
    owner_id: str
    owner: Literal["organization", "project", "project.api_key"]
    project_id: str | None
    interval: Interval
    interval_started_at: int
    threshold_nanos: int
    threshold_percent: int | None
    spent_nanos: int
    limit_nanos: int | None
    created_at: int


class SpendAlertEventList(BaseModel):
    object: Literal["list"] = "list"
    data: list[SpendAlertEvent]
    first_id: str | None
    last_id: str | None
    has_more: bool


class EventParameters(BaseModel):
    owner_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    after: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


def _alerts(request: Request) -> Alerts:
    found: Alerts = request.app.state.house.alerts
    return found


def _currency(request: Request) -> str:
    found: str = request.app.state.settings.currency
    return found


def _shown(standing: Standing, currency: str) -> SpendAlert:
    alert, budget = standing.alert, standing.budget
    amount = alert.amount_nanos(budget.limit_nanos)
    return SpendAlert(
        id=alert.id,
        object=f"{OBJECTS[alert.level]}.spend_alert",
        currency=currency,
        interval=budget.period.value,
        threshold_amount=whole_cents(amount),
        threshold_nanos=amount,
        threshold_percent=alert.threshold_percent,
        notification_channel=NotificationChannel(),
        created_at=alert.created_at_ns // _S,
    )


def _event(raised: Raised) -> SpendAlertEvent:
    return SpendAlertEvent.model_validate(
        {
            "id": raised.id,
            "alert_id": raised.alert_id,
            "owner_id": raised.owner_id,
            "owner": OBJECTS[raised.level],
            "project_id": raised.project_id or None,
            "interval": raised.period,
            "interval_started_at": raised.period_start_ns // _S,
            "threshold_nanos": raised.threshold_nanos,
            "threshold_percent": raised.threshold_percent,
            "spent_nanos": raised.spent_nanos,
            "limit_nanos": raised.limit_nanos,
            "created_at": raised.raised_at_ns // _S,
        }
    )


def _request(body: SpendAlertBody, currency: str) -> AlertRequest:
    check_currency(body.currency, currency)
    if body.notification_channel.type != "webhook":
        reason = "this server sends no mail. Leave it out and make a webhook endpoint for 'spend_alert.raised'"
        raise UnsupportedParameter("notification_channel", reason)
    nanos = nanos_of(body.threshold_amount, body.threshold_nanos, "threshold_amount")
    return AlertRequest(
        threshold_nanos=nanos, threshold_percent=body.threshold_percent, period=Period(body.interval)
    )  # fmt: skip


def _routes(prefix: str, place: Any) -> None:
    where = Annotated[Ref, Depends(place)]
    one = f"{prefix}/spend_alerts/{{alert_id}}"

    @router.get(f"{prefix}/spend_alerts")
    async def list_spend_alerts(
        request: Request, caller: Actor, ref: where, page: Annotated[PageParameters, Query()]
    ) -> SpendAlertList:
        """The alerts that are set."""
        found = [_shown(standing, _currency(request)) for standing in await _alerts(request).list(caller, ref)]
        if page.order == "desc":
            found.reverse()
        if page.after is not None:
            ids = [alert.id for alert in found]
            found = found[ids.index(page.after) + 1 :] if page.after in ids else []
        data = found[: page.limit]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return SpendAlertList(data=data, first_id=first, last_id=last, has_more=len(found) > len(data))

    @router.post(f"{prefix}/spend_alerts", openapi_extra=documented(SpendAlertBody))
    async def create_spend_alert(request: Request, caller: Actor, ref: where) -> SpendAlert:
        """Sets an alert. Below what is spent already, it is raised with the next charge."""
        wanted = _request(await read_body(request, SpendAlertBody), _currency(request))
        return _shown(await _alerts(request).create(caller, ref, wanted), _currency(request))

    @router.get(one)
    async def get_spend_alert(alert_id: str, request: Request, caller: Actor, ref: where) -> SpendAlert:
        """One alert."""
        return _shown(await _alerts(request).get(caller, ref, alert_id), _currency(request))

    @router.post(one, openapi_extra=documented(SpendAlertBody))
    async def update_spend_alert(alert_id: str, request: Request, caller: Actor, ref: where) -> SpendAlert:
        """Gives an alert another threshold, at which it can be raised again in this interval."""
        wanted = _request(await read_body(request, SpendAlertBody), _currency(request))
        return _shown(await _alerts(request).change(caller, ref, alert_id, wanted), _currency(request))

    @router.delete(one)
    async def delete_spend_alert(alert_id: str, request: Request, caller: Actor, ref: where) -> SpendAlertDeleted:
        """Removes an alert. What it has raised stays listed."""
        standing = await _alerts(request).get(caller, ref, alert_id)
        await _alerts(request).delete(caller, ref, alert_id)
        kind = f"{OBJECTS[standing.alert.level]}.spend_alert.deleted"
        return SpendAlertDeleted(id=alert_id, object=kind)


@router.get("/v1/organization/spend_alert_events")
async def list_spend_alert_events(
    request: Request, caller: Actor, page: Annotated[EventParameters, Query()]
) -> SpendAlertEventList:
    """The alerts that were raised, newest first, of everything the caller manages."""
    query = RaisedQuery(
        owner_id=page.owner_id, after=page.after, limit=page.limit, newest_first=page.order == "desc"
    )  # fmt: skip
    found = await _alerts(request).raised(caller, query)
    data = [_event(raised) for raised in found[: page.limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return SpendAlertEventList(data=data, first_id=first, last_id=last, has_more=len(found) > len(data))


for _prefix, _place in PLACES:
    _routes(_prefix, _place)
