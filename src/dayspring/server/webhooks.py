"""`/v1/webhook_endpoints`: OpenAI's routes, for the events that this server sends."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from dayspring.accounts.limits import Limiter
from dayspring.accounts.webhooks.delivery import Deliveries
from dayspring.accounts.webhooks.outbox import known_events
from dayspring.accounts.webhooks.service import EndpointChange, EndpointRequest, Webhooks
from dayspring.accounts.webhooks.signing import hint_of
from dayspring.accounts.webhooks.tables import Endpoint
from dayspring.core.errors import InvalidRequest, Unavailable
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/webhook_endpoints", tags=["Webhooks"])

_S = 10**9
_Name = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Url = Annotated[str, Field(min_length=1, max_length=2000)]
_Types = Annotated[list[str], Field(min_length=1, max_length=50)]


class WebhookEndpoint(BaseModel):
    """Where events are posted, signed as Standard Webhooks has it."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    project_id: str | None
    """null: events of every project and of the organization itself."""
    signing_secret_hint: str
    created_at: int
    updated_at: int


class WebhookEndpointWithSecret(WebhookEndpoint):
    signing_secret: str
    """Shown once, here."""


class WebhookEndpointList(BaseModel):
    object: Literal["list"] = "list"
    data: list[WebhookEndpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class WebhookEndpointDeleted(BaseModel):
    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class WebhookEndpointTest(BaseModel):
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class WebhookBody(BaseModel):
    """`scope`: the caller's project, or with `organization` all of them and the organization itself."""

    model_config = ConfigDict(extra="forbid")

    name: _Name
    url: _Url
    event_types: _Types
    scope: Literal["project", "organization"] = "project"


class WebhookChangeBody(BaseModel):
    """What is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: _Name | None = None
    url: _Url | None = None
    event_types: _Types | None = None


class RotationBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keep_old_secret_active_for_24_hours: bool = False


class WebhookTestBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event_type: str


class PageParameters(BaseModel):
    after: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    limit: int = Field(20, ge=1, le=100)


def _webhooks(request: Request) -> Webhooks:
    found: Webhooks = request.app.state.house.webhooks
    return found


def _shown(endpoint: Endpoint) -> WebhookEndpoint:
    return WebhookEndpoint(**_fields(endpoint))


def _with_secret(endpoint: Endpoint) -> WebhookEndpointWithSecret:
    return WebhookEndpointWithSecret(**_fields(endpoint), signing_secret=endpoint.secret)


def _fields(endpoint: Endpoint) -> dict[str, object]:
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types.split(),
        "project_id": endpoint.project_id or None,
        "signing_secret_hint": hint_of(endpoint.secret),
        "created_at": endpoint.created_at_ns // _S,
        "updated_at": endpoint.updated_at_ns // _S,
    }


@router.post("", openapi_extra=documented(WebhookBody))
async def create_webhook_endpoint(request: Request, caller: Actor) -> WebhookEndpointWithSecret:
    """Makes an endpoint. Its signing secret is in this answer and in no other."""
    body = await read_body(request, WebhookBody)
    wanted = EndpointRequest(
        name=body.name, url=body.url, event_types=tuple(body.event_types),
        project_id="" if body.scope == "organization" else None,
    )  # fmt: skip
    return _with_secret(await _webhooks(request).create(caller, wanted))


@router.get("")
async def list_webhook_endpoints(
    request: Request, caller: Actor, page: Annotated[PageParameters, Query()]
) -> WebhookEndpointList:
    """The endpoints the caller manages, oldest first."""
    found = await _webhooks(request).list(caller, page.after, page.limit)
    data = [_shown(endpoint) for endpoint in found[: page.limit]]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return WebhookEndpointList(data=data, first_id=first, last_id=last, has_more=len(found) > len(data))


@router.get("/{webhook_endpoint_id}")
async def get_webhook_endpoint(webhook_endpoint_id: str, request: Request, caller: Actor) -> WebhookEndpoint:
    """One endpoint, without its secret."""
    return _shown(await _webhooks(request).get(caller, webhook_endpoint_id))


@router.post("/{webhook_endpoint_id}", openapi_extra=documented(WebhookChangeBody))
async def update_webhook_endpoint(webhook_endpoint_id: str, request: Request, caller: Actor) -> WebhookEndpoint:
    """Changes its name, address or events."""
    body = await read_body(request, WebhookChangeBody)
    types = None if body.event_types is None else tuple(body.event_types)
    change = EndpointChange(name=body.name, url=body.url, event_types=types)
    return _shown(await _webhooks(request).change(caller, webhook_endpoint_id, change))


@router.delete("/{webhook_endpoint_id}")
async def delete_webhook_endpoint(webhook_endpoint_id: str, request: Request, caller: Actor) -> WebhookEndpointDeleted:
    """Removes it, with what was still to be sent to it."""
    await _webhooks(request).delete(caller, webhook_endpoint_id)
    return WebhookEndpointDeleted(id=webhook_endpoint_id)


@router.post("/{webhook_endpoint_id}/rotate_secret", openapi_extra=documented(RotationBody))
async def rotate_webhook_secret(webhook_endpoint_id: str, request: Request, caller: Actor) -> WebhookEndpointWithSecret:
    """Makes another signing secret; the present one may sign too for a day."""
    body = await read_body(request, RotationBody) if (await request.body()).strip() else RotationBody()
    keep = body.keep_old_secret_active_for_24_hours
    return _with_secret(await _webhooks(request).rotate_secret(caller, webhook_endpoint_id, keep_old=keep))


@router.post("/{webhook_endpoint_id}/test", openapi_extra=documented(WebhookTestBody))
async def test_webhook_endpoint(webhook_endpoint_id: str, request: Request, caller: Actor) -> WebhookEndpointTest:
    """Sends a sample now and tells how it was answered."""
    body = await read_body(request, WebhookTestBody)
    if body.event_type not in known_events:
        known = ", ".join(sorted(known_events))
        raise InvalidRequest(f"The events sent here are {known}. Choose one of these.", param="event_type")
    endpoint = await _webhooks(request).get(caller, webhook_endpoint_id)
    deliveries: Deliveries = request.app.state.deliveries
    limiter: Limiter = request.app.state.limiter
    admission = limiter.enter(caller, 1)
    try:
        status = await deliveries.test(endpoint, body.event_type)
    finally:
        admission.leave(0)
    if status is None:
        raise Unavailable("The endpoint could not be reached", "Check its address; the server's log has the reason.")
    return WebhookEndpointTest(webhook_endpoint_id=endpoint.id, event_type=body.event_type, status_code=status)
