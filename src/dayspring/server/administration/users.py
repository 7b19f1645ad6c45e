"""The organization's users over HTTP, in OpenAI's shapes; adding one and a link for a password are in its style."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from dayspring.accounts.people.service import Link, NewUser, UserChange
from dayspring.accounts.people.users import User
from dayspring.accounts.principals import Principal
from dayspring.core.errors import NotFound
from dayspring.server.administration.wire import (
    Paging,
    Strict,
    house_of,
    in_organization,
    in_project,
    organization_role,
    page,
    project_role,
)
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["PlaceBody", "UserObject", "router", "user_object"]

router = APIRouter(prefix="/v1/organization/users", tags=["Administration"])


class UserPlace(BaseModel):
    """A project that is open to the user."""

    id: str
    name: str
    role: str


class UserPlaces(BaseModel):
    object: Literal["list"] = "list"
    data: list[UserPlace]


class LinkObject(BaseModel):
    """A one-time link: `token`, shown this once, sets a password at POST /v1/password_resets/use."""

    object: Literal["one_time_link"] = "one_time_link"
    token: str
    expires_at: int


class UserObject(BaseModel):
    """A user of the organization."""

    id: str
    object: Literal["organization.user"] = "organization.user"
    email: str
    name: str
    role: str
    is_operator: bool
    added_at: int
    created: int
    projects: UserPlaces | None = None
    password_reset: LinkObject | None = None


class UserList(BaseModel):
    object: Literal["list"] = "list"
    data: list[UserObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class PlaceBody(Strict):
    id: str = Field(max_length=64)
    role: str = "member"


class UserBody(Strict):
    email: str = Field(max_length=320)
    name: str = Field("", max_length=200)
    role: str = "reader"
    password: str | None = Field(None, max_length=1024)
    """Without one the answer has a link to set it."""
    is_operator: bool = False
    projects: list[PlaceBody] | None = None
    """Without any: the organization's first one."""


class UserChangeBody(Strict):
    role: str | None = None
    name: str | None = Field(None, max_length=200)
    is_operator: bool | None = None


class UserDeleted(BaseModel):
    id: str
    object: Literal["organization.user.deleted"] = "organization.user.deleted"
    deleted: Literal[True] = True
    erased: int | None = None
    """How many kept things were erased, where that was asked for."""


class UserPaging(Paging):
    emails: list[str] = Field(default_factory=list)


@router.get("")
async def list_users(request: Request, actor: Actor, paging: Annotated[UserPaging, Query()]) -> UserList:
    """List the organization's users, oldest first."""
    emails = (*paging.emails, *request.query_params.getlist("emails[]"))
    found = await house_of(request).people.list_users(actor, emails=emails, after=paging.after, limit=paging.limit + 1)
    return UserList(**page([user_object(user) for user in found], paging.limit))


@router.post("", openapi_extra=documented(UserBody))
async def add_user(request: Request, actor: Actor) -> UserObject:
    """Add a user. Without a password the answer has a one-time link to set one."""
    body = await read_body(request, UserBody)
    places = None if body.projects is None else tuple((each.id, project_role(each.role)) for each in body.projects)
    new = NewUser(
        email=body.email, name=body.name, role=organization_role(body.role), password=body.password,
        is_operator=body.is_operator, projects=places,
    )  # fmt: skip
    user, link = await house_of(request).people.add(actor, new)
    return user_object(user).model_copy(update={"password_reset": None if link is None else link_object(link)})


@router.get("/{user_id}")
async def get_user(user_id: str, request: Request, actor: Actor) -> UserObject:
    """Show a user and the projects that are open to them."""
    return await with_places(request, await house_of(request).people.get(actor, user_id))


@router.post("/{user_id}", openapi_extra=documented(UserChangeBody))
async def change_user(user_id: str, request: Request, actor: Actor) -> UserObject:
    """Change a user's role or name. A new role ends the user's sessions."""
    body = await read_body(request, UserChangeBody)
    role = None if body.role is None else organization_role(body.role)
    change = UserChange(role=role, name=body.name, is_operator=body.is_operator)
    return user_object(await house_of(request).people.change(actor, user_id, change))


@router.delete("/{user_id}")
async def delete_user(user_id: str, request: Request, actor: Actor, erase: bool = False) -> UserDeleted:
    """Remove a user: sessions and keys end at once. With `erase`, everything kept of them goes too."""
    house = house_of(request)
    if not erase:
        await house.people.remove(actor, user_id)
        return UserDeleted(id=user_id)
    erased = await request.app.state.privacy.erase_user(actor, user_id)
    return UserDeleted(id=user_id, erased=erased)


@router.post("/{user_id}/password_reset")
async def reset_password(user_id: str, request: Request, actor: Actor) -> LinkObject:
    """Make a one-time link with which the user sets a new password within a day."""
    return link_object(await house_of(request).people.reset_password(actor, user_id))


async def with_places(request: Request, user: User) -> UserObject:
    """The user with the projects that are open to them."""
    places = await house_of(request).people.projects(user)
    data = [UserPlace(id=identifier, name=name, role=in_project(role)) for identifier, name, role in places]
    return user_object(user).model_copy(update={"projects": UserPlaces(data=data)})


def user_object(user: User) -> UserObject:
    added = user.created_at_ns // 10**9
    return UserObject(
        id=user.id, email=user.email, name=user.name, role=in_organization(user.role), is_operator=user.is_operator,
        added_at=added, created=added,
    )  # fmt: skip


def link_object(link: Link) -> LinkObject:
    return LinkObject(token=link.token, expires_at=link.expires_at_ns // 10**9)


def person(actor: Principal) -> str:
    """The id of the user who signed in. Raises NotFound for a key: there is nobody behind it."""
    if not actor.is_session:
        raise NotFound("user", "me", "Sign in; a key is nobody.")
    return actor.user_id
