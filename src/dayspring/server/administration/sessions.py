"""Signing in and out over HTTP: passwords, one-time links, one's own sessions.

A session's token is sent as `Authorization: Bearer`, like a key. What it does not do: cookies. A page that keeps the
token in one adds its own guard against forged requests, and calls the same verbs.
"""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from dayspring.accounts.people.passwords import LONGEST
from dayspring.accounts.people.sessions import Session
from dayspring.accounts.people.sign_in import NewSession, Visitor
from dayspring.server.administration.users import UserObject, person, user_object, with_places
from dayspring.server.administration.wire import Strict, house_of
from dayspring.web.auth import Actor, Caller, address_of, bearer
from dayspring.web.body import OPEN_TO_ALL, documented, read_body

__all__ = ["SessionObject", "new_session_object", "router", "visitor"]

router = APIRouter(prefix="/v1", tags=["Sign in"])


class SessionObject(BaseModel):
    """A person's session. `token`, in the answer of the call that made it only, is sent like a key."""

    id: str
    object: Literal["session"] = "session"
    user_id: str
    project_id: str | None
    created_at: int
    last_used_at: int
    """Exact to a minute."""
    expires_at: int
    """When it ends if it is not used again."""
    ip_address: str
    user_agent: str
    token: str | None = None
    user: UserObject | None = None


class SessionList(BaseModel):
    object: Literal["list"] = "list"
    data: list[SessionObject]
    has_more: Literal[False] = False


class SignInBody(Strict):
    email: str = Field(max_length=320)
    password: str = Field(max_length=LONGEST)
    project_id: str | None = Field(None, max_length=64)
    """In which project to work; without one the first that is open."""


class AcceptInviteBody(Strict):
    token: str = Field(max_length=64)
    name: str = Field("", max_length=200)
    password: str = Field(max_length=LONGEST)


class UseResetBody(Strict):
    token: str = Field(max_length=64)
    password: str = Field(max_length=LONGEST)


class PasswordBody(Strict):
    old_password: str = Field(max_length=LONGEST)
    new_password: str = Field(max_length=LONGEST)


class SessionDeleted(BaseModel):
    id: str
    object: Literal["session.deleted"] = "session.deleted"
    deleted: Literal[True] = True


class PasswordChanged(BaseModel):
    """Every session of the user has ended."""

    object: Literal["password.changed"] = "password.changed"
    user_id: str


@router.post("/sessions", openapi_extra=documented(SignInBody) | OPEN_TO_ALL)
async def sign_in(request: Request) -> SessionObject:
    """Sign in with a password. Too many wrong ones must wait."""
    body = await read_body(request, SignInBody)
    made = await house_of(request).sign_in.with_password(body.email, body.password, visitor(request), body.project_id)
    return new_session_object(made)


@router.get("/sessions")
async def list_sessions(request: Request, caller: Caller) -> SessionList:
    """List one's own sessions."""
    found = await house_of(request).sign_in.list_sessions(caller)
    return SessionList(data=[session_object(each) for each in found])


@router.delete("/sessions/{session_id}")
async def end_session(session_id: str, request: Request, caller: Caller) -> SessionDeleted:
    """End one of one's own sessions at once; `current` names the one that is used for this."""
    if session_id == "current":
        await house_of(request).sign_in.sign_out(caller, bearer(request))
    else:
        await house_of(request).sign_in.end_session(caller, session_id)
    return SessionDeleted(id=session_id)


@router.get("/users/me")
async def get_me(request: Request, actor: Actor) -> UserObject:
    """Show who signed in, and the projects that are open to them."""
    return await with_places(request, await house_of(request).people.get(actor, person(actor)))


@router.post("/users/me/password", openapi_extra=documented(PasswordBody))
async def change_password(request: Request, actor: Actor) -> PasswordChanged:
    """Change one's own password. Ends every session, this one too."""
    body = await read_body(request, PasswordBody)
    await house_of(request).sign_in.change_password(actor, body.old_password, body.new_password, visitor(request))
    return PasswordChanged(user_id=actor.user_id)


@router.post("/invites/accept", openapi_extra=documented(AcceptInviteBody) | OPEN_TO_ALL)
async def accept_invite(request: Request) -> SessionObject:
    """Accept an invitation by its link: makes the user and signs them in."""
    body = await read_body(request, AcceptInviteBody)
    made = await house_of(request).sign_in.accept_invite(body.token, body.name, body.password, visitor(request))
    return new_session_object(made)


@router.post("/password_resets/use", openapi_extra=documented(UseResetBody) | OPEN_TO_ALL)
async def use_reset(request: Request) -> PasswordChanged:
    """Set a password with a one-time link. Ends every session of the user."""
    body = await read_body(request, UseResetBody)
    user = await house_of(request).sign_in.use_reset(body.token, body.password, visitor(request))
    return PasswordChanged(user_id=user.id)


def visitor(request: Request) -> Visitor:
    return Visitor(address_of(request), request.headers.get("user-agent", "")[:200])


def new_session_object(made: NewSession) -> SessionObject:
    shown = session_object(made.session)
    return shown.model_copy(update={"token": made.token, "user": user_object(made.user)})


def session_object(session: Session) -> SessionObject:
    return SessionObject(
        id=session.id,
        user_id=session.user_id,
        project_id=session.project_id or None,
        created_at=session.created_at_ns // 10**9,
        last_used_at=session.seen_at_ns // 10**9,
        expires_at=session.ends_at_ns // 10**9,
        ip_address=session.address,
        user_agent=session.user_agent,
    )
