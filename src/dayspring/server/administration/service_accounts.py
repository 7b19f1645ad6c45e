"""Service accounts over HTTP, in OpenAI's shapes: the way its client makes a key for a program."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from dayspring.accounts.administration.service_accounts import ServiceAccount
from dayspring.accounts.principals import Scope
from dayspring.accounts.service import KeyRequest, NewKey
from dayspring.core.errors import Malformed
from dayspring.server.administration.wire import Paging, Strict, expiry_ns, house_of, page, seconds
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization/projects/{project_id}/service_accounts", tags=["Administration"])


class ServiceAccountKey(BaseModel):
    """A key with its secret, `value`, shown this once."""

    id: str
    object: Literal["organization.project.service_account.api_key"] = "organization.project.service_account.api_key"
    name: str
    value: str
    created_at: int
    expires_at: int | None


class ServiceAccountObject(BaseModel):
    """A program's name in a project."""

    id: str
    object: Literal["organization.project.service_account"] = "organization.project.service_account"
    name: str
    role: Literal["member", "none"] = "member"
    created_at: int
    api_key: ServiceAccountKey | None = None


class ServiceAccountList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ServiceAccountObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ServiceAccountBody(Strict):
    name: str = Field(max_length=200)
    create_service_account_only: bool | None = None
    expires_in_seconds: int | None = None


class ServiceAccountChangeBody(Strict):
    name: str = Field(max_length=200)
    role: Literal["member"] = "member"


class ServiceAccountKeyBody(Strict):
    name: str = Field("", max_length=200)
    scopes: list[str] = Field(default_factory=lambda: [Scope.INFERENCE, Scope.USAGE])
    expires_in_seconds: int | None = None


class ServiceAccountDeleted(BaseModel):
    id: str
    object: Literal["organization.project.service_account.deleted"] = "organization.project.service_account.deleted"
    deleted: Literal[True] = True


@router.get("")
async def list_service_accounts(
    project_id: str, request: Request, actor: Actor, paging: Annotated[Paging, Query()]
) -> ServiceAccountList:
    """List the project's service accounts."""
    found = await house_of(request).keys.list_service_accounts(actor, project_id, paging.after, paging.limit + 1)
    return ServiceAccountList(**page([_account(each) for each in found], paging.limit))


@router.post("", openapi_extra=documented(ServiceAccountBody))
async def create_service_account(project_id: str, request: Request, actor: Actor) -> ServiceAccountObject:
    """Make a service account with a key, whose secret is shown this once."""
    body = await read_body(request, ServiceAccountBody)
    alone = bool(body.create_service_account_only)
    if alone and body.expires_in_seconds is not None:
        raise Malformed("there is no key to expire. Leave it out.", location="expires_in_seconds")
    account, made = await house_of(request).keys.create_service_account(
        actor, project_id, body.name, key=not alone, expires_at_ns=expiry_ns(request, body.expires_in_seconds)
    )
    shown = _account(account)
    if made is None:
        return shown.model_copy(update={"role": "none"})
    return shown.model_copy(update={"api_key": _key(made)})


@router.get("/{account_id}")
async def get_service_account(project_id: str, account_id: str, request: Request, actor: Actor) -> ServiceAccountObject:
    """Show a service account."""
    return _account(await house_of(request).keys.get_service_account(actor, project_id, account_id))


@router.post("/{account_id}", openapi_extra=documented(ServiceAccountChangeBody))
async def rename_service_account(
    project_id: str, account_id: str, request: Request, actor: Actor
) -> ServiceAccountObject:
    """Rename a service account."""
    body = await read_body(request, ServiceAccountChangeBody)
    return _account(await house_of(request).keys.rename_service_account(actor, project_id, account_id, body.name))


@router.delete("/{account_id}")
async def delete_service_account(
    project_id: str, account_id: str, request: Request, actor: Actor
) -> ServiceAccountDeleted:
    """Delete a service account; its keys end at once."""
    await house_of(request).keys.delete_service_account(actor, project_id, account_id)
    return ServiceAccountDeleted(id=account_id)


@router.post("/{account_id}/api_keys", openapi_extra=documented(ServiceAccountKeyBody))
async def create_service_account_key(
    project_id: str, account_id: str, request: Request, actor: Actor
) -> ServiceAccountKey:
    """Make another key for a service account. Its secret, `value`, is shown this once."""
    body = await read_body(request, ServiceAccountKeyBody)
    house = house_of(request)
    account = await house.keys.get_service_account(actor, project_id, account_id)
    asked = KeyRequest(
        name=body.name or account.name,
        scopes=frozenset(body.scopes),
        expires_at_ns=expiry_ns(request, body.expires_in_seconds),
        service_account_id=account_id,
    )
    return _key(await house.keys.create(actor, project_id, asked))


def _account(account: ServiceAccount) -> ServiceAccountObject:
    return ServiceAccountObject(id=account.id, name=account.name, created_at=account.created_at_ns // 10**9)


def _key(made: NewKey) -> ServiceAccountKey:
    key = made.key
    return ServiceAccountKey(
        id=key.id, name=key.name, value=made.token, created_at=key.created_at_ns // 10**9,
        expires_at=seconds(key.expires_at_ns),
    )  # fmt: skip
