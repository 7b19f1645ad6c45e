"""Keys that manage an organization, over HTTP, in OpenAI's shapes."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from dayspring.accounts.keys import Key
from dayspring.core.errors import NotFound
from dayspring.server.administration.wire import Paging, Strict, expiry_ns, house_of, page, seconds
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization/admin_api_keys", tags=["Administration"])


class AdminKeyOwner(BaseModel):
    type: Literal["user", "service_account"]
    object: Literal["organization.user"] = "organization.user"
    id: str
    name: str
    created_at: int
    role: Literal["owner"] = "owner"


class AdminKeyObject(BaseModel):
    """A key that manages the organization. `value` is its secret, in the answer of the call that made it only."""

    id: str
    object: Literal["organization.admin_api_key"] = "organization.admin_api_key"
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None = None
    expires_at: int | None
    owner: AdminKeyOwner
    value: str | None = None


class AdminKeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AdminKeyObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class AdminKeyBody(Strict):
    name: str = Field(max_length=200)
    expires_in_seconds: int | None = None


class AdminKeyDeleted(BaseModel):
    id: str
    object: Literal["organization.admin_api_key.deleted"] = "organization.admin_api_key.deleted"
    deleted: Literal[True] = True


class OrderedPaging(Paging):
    order: Literal["asc", "desc"] = "asc"


@router.get("")
async def list_admin_keys(request: Request, actor: Actor, paging: Annotated[OrderedPaging, Query()]) -> AdminKeyList:
    """List the keys that may manage the organization."""
    found = await house_of(request).keys.list_admin(actor)
    after = paging.after
    if paging.order == "desc":
        found = [key for key in reversed(found) if after is None or key.id < after]
    else:
        found = [key for key in found if after is None or key.id > after]
    return AdminKeyList(**page([_key(key) for key in found], paging.limit))


@router.post("", openapi_extra=documented(AdminKeyBody))
async def create_admin_key(request: Request, actor: Actor) -> AdminKeyObject:
    """Make a key that manages the organization and calls no models. Its secret, `value`, is shown this once."""
    body = await read_body(request, AdminKeyBody)
    made = await house_of(request).keys.create_admin(actor, body.name, expiry_ns(request, body.expires_in_seconds))
    return _key(made.key).model_copy(update={"value": made.token})


@router.get("/{key_id}")
async def get_admin_key(key_id: str, request: Request, actor: Actor) -> AdminKeyObject:
    """Show such a key."""
    for key in await house_of(request).keys.list_admin(actor):
        if key.id == key_id:
            return _key(key)
    raise NotFound("key", key_id)


@router.delete("/{key_id}")
async def delete_admin_key(key_id: str, request: Request, actor: Actor) -> AdminKeyDeleted:
    """End such a key at once."""
    await get_admin_key(key_id, request, actor)
    await house_of(request).keys.revoke(actor, key_id)
    return AdminKeyDeleted(id=key_id)


def _key(key: Key) -> AdminKeyObject:
    created = key.created_at_ns // 10**9
    owner = AdminKeyOwner(
        type="user" if key.user_id else "service_account", id=key.user_id or key.id, name=key.name, created_at=created
    )
    return AdminKeyObject(
        id=key.id, name=key.name, redacted_value=f"{key.prefix}…", created_at=created,
        expires_at=seconds(key.expires_at_ns), owner=owner,
    )  # fmt: skip
