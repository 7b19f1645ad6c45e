"""Who is asking: the bearer key of a request as a Principal."""

from typing import Annotated

from fastapi import Depends, Request

from dayspring.accounts.principals import Principal
from dayspring.accounts.service import Accounts
from dayspring.core.errors import PermissionDenied, Unauthenticated

__all__ = ["Admin", "Caller", "authenticated", "bearer"]


def bearer(request: Request) -> str:
    """The token of the Authorization header. Raises Unauthenticated."""
    value = request.headers.get("authorization", "")
    kind, _, token = value.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    return token.strip()


async def authenticated(request: Request) -> Principal:
    accounts: Accounts = request.app.state.accounts
    return await accounts.authenticate(bearer(request))


async def _admin(request: Request) -> Principal:
    principal = await authenticated(request)
    if not principal.is_admin:
        raise PermissionDenied("This route is for administrators", "Use a key made with --admin.")
    return principal


Caller = Annotated[Principal, Depends(authenticated)]
Admin = Annotated[Principal, Depends(_admin)]
