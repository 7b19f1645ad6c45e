"""Invitations over HTTP, in OpenAI's shapes. Nothing is mailed: the answer has a link to hand over."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from dayspring.accounts.people.invites import Invite
from dayspring.server.administration.users import PlaceBody
from dayspring.server.administration.wire import (
    Paging,
    Strict,
    house_of,
    in_organization,
    in_project,
    organization_role,
    page,
    project_role,
    seconds,
)
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization/invites", tags=["Administration"])


class InvitePlace(BaseModel):
    id: str
    role: str


class InviteObject(BaseModel):
    """An invitation. `token`, in the answer of the call that made it only, accepts it at POST /v1/invites/accept."""

    id: str
    object: Literal["organization.invite"] = "organization.invite"
    email: str
    role: str
    status: Literal["accepted", "expired", "pending"]
    created_at: int
    expires_at: int
    accepted_at: int | None
    projects: list[InvitePlace]
    token: str | None = None


class InviteList(BaseModel):
    object: Literal["list"] = "list"
    data: list[InviteObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InviteBody(Strict):
    email: str = Field(max_length=320)
    role: str
    projects: list[PlaceBody] | None = None
    """Without any: the organization's first one."""


class InviteDeleted(BaseModel):
    id: str
    object: Literal["organization.invite.deleted"] = "organization.invite.deleted"
    deleted: Literal[True] = True


@router.get("")
async def list_invites(request: Request, actor: Actor, paging: Annotated[Paging, Query()]) -> InviteList:
    """List the organization's invitations, oldest first."""
    found = await house_of(request).people.list_invites(actor, paging.after, paging.limit + 1)
    return InviteList(**page([_invite(request, each) for each in found], paging.limit))


@router.post("", openapi_extra=documented(InviteBody))
async def create_invite(request: Request, actor: Actor) -> InviteObject:
    """Invite an address for a week. Replaces an open invitation of the same address."""
    body = await read_body(request, InviteBody)
    places = None if body.projects is None else tuple((each.id, project_role(each.role)) for each in body.projects)
    invite, link = await house_of(request).people.invite(actor, body.email, organization_role(body.role), places)
    return _invite(request, invite).model_copy(update={"token": link.token})


@router.get("/{invite_id}")
async def get_invite(invite_id: str, request: Request, actor: Actor) -> InviteObject:
    """Show an invitation."""
    return _invite(request, await house_of(request).people.get_invite(actor, invite_id))


@router.delete("/{invite_id}")
async def delete_invite(invite_id: str, request: Request, actor: Actor) -> InviteDeleted:
    """Withdraw an invitation that was not accepted."""
    await house_of(request).people.withdraw_invite(actor, invite_id)
    return InviteDeleted(id=invite_id)


def _invite(request: Request, invite: Invite) -> InviteObject:
    return InviteObject(
        id=invite.id,
        email=invite.email,
        role=in_organization(invite.role),
        status=invite.status(house_of(request).clock.time_ns()),
        created_at=invite.created_at_ns // 10**9,
        expires_at=invite.expires_at_ns // 10**9,
        accepted_at=seconds(invite.accepted_at_ns),
        projects=[InvitePlace(id=identifier, role=in_project(role)) for identifier, role in invite.projects],
    )
