"""API keys over HTTP: listing, showing, changing, deleting as OpenAI has them; making and rotating in its style."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from dayspring.accounts.administration.keys import KeyChange
from dayspring.accounts.keys import Key
from dayspring.accounts.principals import Scope
from dayspring.accounts.service import KeyRequest, NewKey
from dayspring.core.money import parse_amount
from dayspring.server.administration.wire import Paging, Strict, expiry_ns, house_of, in_project, page, seconds
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization", tags=["Administration"])

_PLAIN = [Scope.INFERENCE, Scope.USAGE]


class KeyOwnerUser(BaseModel):
    id: str
    email: str
    name: str
    role: str
    created_at: int


class KeyOwnerServiceAccount(BaseModel):
    id: str
    name: str
    role: str
    created_at: int


class KeyOwner(BaseModel):
    """Whose key it is; `type` is null for a key that is nobody's."""

    type: Literal["user", "service_account"] | None = None
    user: KeyOwnerUser | None = None
    service_account: KeyOwnerServiceAccount | None = None


class ProjectKeyObject(BaseModel):
    """A key of a project. `value` is its secret, in the answer of the call that made it only."""

    id: str
    object: Literal["organization.project.api_key"] = "organization.project.api_key"
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None = None
    expires_at: int | None
    owner: KeyOwner
    owner_project_access: Literal["active", "inactive"]
    scopes: list[str]
    allowed_models: list[str] | None
    sees_cost: bool
    previous_secret_until: int | None
    """Until when (Unix seconds) the secret before the last rotation works too."""
    value: str | None = None


class ProjectKeyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ProjectKeyObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ProjectKeyBody(Strict):
    name: str = Field(max_length=200)
    scopes: list[str] = Field(default_factory=lambda: list(_PLAIN))
    allowed_models: list[str] | None = None
    sees_cost: bool = False
    expires_in_seconds: int | None = None
    budget: str | None = None
    """Most it may spend, a decimal such as "5.00"."""
    user_id: str | None = Field(None, max_length=64)
    """The user whose key it shall be."""


class ProjectKeyChangeBody(Strict):
    """What is sent is changed. An empty list of scopes gives back the plain ones."""

    name: str = Field("", max_length=200)
    scopes: list[str] = Field(default_factory=list)
    allowed_models: list[str] | None = None
    sees_cost: bool = False
    expires_in_seconds: int | None = None


class KeyRotationBody(Strict):
    grace_seconds: int = 0
    """How long the old secret works beside the new one."""


class ProjectKeyDeleted(BaseModel):
    id: str
    object: Literal["organization.project.api_key.deleted"] = "organization.project.api_key.deleted"
    deleted: Literal[True] = True


@router.get("/projects/{project_id}/api_keys")
async def list_project_keys(
    project_id: str,
    request: Request,
    actor: Actor,
    paging: Annotated[Paging, Query()],
    owner_project_access: Literal["active", "inactive", "any"] = "any",
) -> ProjectKeyList:
    """List the project's live keys; for who does not manage it, their own."""
    found = await house_of(request).keys.list_keys(actor, project_id)
    shown = [await key_object(request, key) for key in found if paging.after is None or key.id > paging.after]
    wanted = [each for each in shown if owner_project_access in ("any", each.owner_project_access)]
    return ProjectKeyList(**page(wanted, paging.limit))


@router.post("/projects/{project_id}/api_keys", openapi_extra=documented(ProjectKeyBody))
async def create_project_key(project_id: str, request: Request, actor: Actor) -> ProjectKeyObject:
    """Make a key. Its secret, `value`, is shown this once."""
    body = await read_body(request, ProjectKeyBody)
    asked = KeyRequest(
        name=body.name,
        scopes=frozenset(body.scopes),
        allowed_models=None if body.allowed_models is None else frozenset(body.allowed_models),
        sees_cost=body.sees_cost,
        expires_at_ns=expiry_ns(request, body.expires_in_seconds),
        budget_nanos=None if body.budget is None else parse_amount(body.budget),
        user_id=body.user_id or "",
    )
    return await _with_secret(request, await house_of(request).keys.create(actor, project_id, asked))


@router.get("/projects/{project_id}/api_keys/{key_id}")
async def get_project_key(project_id: str, key_id: str, request: Request, actor: Actor) -> ProjectKeyObject:
    """Show a key."""
    return await key_object(request, await house_of(request).keys.get(actor, key_id, project_id))


@router.post("/projects/{project_id}/api_keys/{key_id}", openapi_extra=documented(ProjectKeyChangeBody))
async def change_project_key(project_id: str, key_id: str, request: Request, actor: Actor) -> ProjectKeyObject:
    """Change a key's name, scopes, models, sight of costs or expiry."""
    body = await read_body(request, ProjectKeyChangeBody)
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "scopes" in changes:
        changes["scopes"] = frozenset(changes["scopes"] or _PLAIN)
    if changes.get("allowed_models") is not None:
        changes["allowed_models"] = frozenset(changes["allowed_models"])
    if "expires_in_seconds" in changes:
        changes["expires_at_ns"] = expiry_ns(request, changes.pop("expires_in_seconds"))
    changed = await house_of(request).keys.change(actor, key_id, KeyChange(**changes), project_id)
    return await key_object(request, changed)


@router.post("/projects/{project_id}/api_keys/{key_id}/rotate", openapi_extra=documented(KeyRotationBody))
async def rotate_project_key(project_id: str, key_id: str, request: Request, actor: Actor) -> ProjectKeyObject:
    """Give a key another secret; the old one works until the grace ends. Id, budget and history stay."""
    body = await read_body(request, KeyRotationBody)
    made = await house_of(request).keys.rotate(actor, key_id, body.grace_seconds, project_id)
    return await _with_secret(request, made)


@router.delete("/projects/{project_id}/api_keys/{key_id}")
async def delete_project_key(project_id: str, key_id: str, request: Request, actor: Actor) -> ProjectKeyDeleted:
    """End a key at once. Requests under way finish; its books stay."""
    await house_of(request).keys.revoke(actor, key_id, project_id)
    return ProjectKeyDeleted(id=key_id)


async def _with_secret(request: Request, made: NewKey) -> ProjectKeyObject:
    return (await key_object(request, made.key)).model_copy(update={"value": made.token})


async def key_object(request: Request, key: Key) -> ProjectKeyObject:
    """The wire form, with its owner."""
    owner, active = await house_of(request).keys.owner_of(key)
    shown = KeyOwner()
    if key.user_id:
        shown = KeyOwner(type="user")
        if owner.user is not None:
            user, role = owner.user, "none" if owner.role is None else in_project(owner.role)
            shown.user = KeyOwnerUser(
                id=user.id, email=user.email, name=user.name, role=role, created_at=user.created_at_ns // 10**9
            )
    elif owner.service_account is not None:
        account = owner.service_account
        shown = KeyOwner(type="service_account")
        shown.service_account = KeyOwnerServiceAccount(
            id=account.id, name=account.name, role="member", created_at=account.created_at_ns // 10**9
        )
    return ProjectKeyObject(
        id=key.id,
        name=key.name,
        redacted_value=f"{key.prefix}…",
        created_at=key.created_at_ns // 10**9,
        expires_at=seconds(key.expires_at_ns),
        owner=shown,
        owner_project_access="active" if active else "inactive",
        scopes=sorted(key.scopes),
        allowed_models=None if key.allowed_models is None else sorted(key.allowed_models),
        sees_cost=key.sees_cost,
        previous_secret_until=seconds(key.previous_until_ns),
    )
