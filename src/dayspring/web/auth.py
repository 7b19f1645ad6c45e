"""Who is asking: the bearer key of a request as a Principal."""

from typing import Annotated

import msgspec
from fastapi import Depends, Request

from dayspring.accounts.people.tokens import SESSION
from dayspring.accounts.principals import Principal
from dayspring.accounts.service import Accounts
from dayspring.core.errors import PermissionDenied, Unauthenticated
from dayspring.web.dialects import is_messages
from dayspring.web.rates import note_caller

__all__ = ["Actor", "Admin", "Caller", "address_of", "authenticated", "bearer", "located"]


def bearer(request: Request) -> str:
    """The token of the Authorization header; on /v1/messages of `x-api-key` too. Raises Unauthenticated."""
    value = request.headers.get("authorization", "")
    if not value and is_messages(request.scope["path"]) and (key := request.headers.get("x-api-key", "").strip()):
        return key
    kind, _, token = value.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()


async def authenticated(request: Request) -> Principal:
    """Who sent the key or session of this request; a session works in the project `OpenAI-Project` names, if any."""
    accounts: Accounts = request.app.state.accounts
    token = bearer(request)
    project_id = request.headers.get("openai-project") if token.startswith(SESSION) else None
    principal = await accounts.authenticate(token, project_id)
    note_caller(request.scope, principal)
    return principal


async def located(request: Request) -> Principal:
    """As `authenticated`, with the address the request came from: for routes that change what is audited.

    An administrator of the installation acts in the organization `OpenAI-Organization` names, if any.
    """
    principal = await authenticated(request)
    organization_id = request.headers.get("openai-organization") or principal.organization_id
    if not principal.is_admin:
        organization_id = principal.organization_id
    elif organization_id != principal.organization_id:
        accounts: Accounts = request.app.state.accounts
        await accounts.check_organization(organization_id)
    return msgspec.structs.replace(principal, organization_id=organization_id, address=address_of(request))


def address_of(request: Request) -> str:
    """The client's address; empty where there is none, as for a Unix socket."""
    return request.client.host if request.client is not None else ""


async def _admin(request: Request) -> Principal:
    principal = await located(request)
    if not principal.is_admin:
        raise PermissionDenied("This route is for administrators", "Use a key made with --admin.")
    return principal


Caller = Annotated[Principal, Depends(authenticated)]
Actor = Annotated[Principal, Depends(located)]
Admin = Annotated[Principal, Depends(_admin)]
