"""Signing in at an identity provider, over HTTP: the way out, and the way back.

The way back answers with a session, as POST /v1/sessions does. The one cookie here binds the two ways to one browser;
it lives ten minutes and opens nothing.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import RedirectResponse

from dayspring.accounts.people.oidc.provider import Client
from dayspring.accounts.people.oidc.service import Oidc
from dayspring.accounts.people.oidc.under_way import LASTS_S
from dayspring.core.errors import InvalidRequest, NotFound, SignInFailed
from dayspring.net.fetcher import Fetcher
from dayspring.server.administration.sessions import SessionObject, new_session_object, visitor
from dayspring.server.house import House
from dayspring.web.body import OPEN_TO_ALL

__all__ = ["oidc_of", "router"]

router = APIRouter(prefix="/v1/sign_in", tags=["Sign in"])

COOKIE = "dayspring_sign_in"


class SignInWays(BaseModel):
    """How people may sign in here."""

    object: Literal["sign_in"] = "sign_in"
    password: Literal[True] = True
    oidc: bool


class WayBack(BaseModel):
    """What the provider sends the browser back with."""

    state: str = Field("", max_length=128)
    code: str = Field("", max_length=4096)
    iss: str | None = Field(None, max_length=2048)
    error: str | None = Field(None, max_length=200)


def oidc_of(house: House, fetcher: Fetcher) -> Oidc | None:
    """The provider that is set, if one is. Raises InvalidRequest where half of it is."""
    settings = house.settings
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_client_id or not settings.oidc_redirect_url:
        raise InvalidRequest(
            "DAYSPRING_OIDC_ISSUER is set, and DAYSPRING_OIDC_CLIENT_ID or DAYSPRING_OIDC_REDIRECT_URL is not. "
            "Set all three."
        )
    client = Client(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret.get_secret_value(),
        settings.oidc_redirect_url,
        settings.oidc_scopes,
    )
    return Oidc(house.db, house.clock, house.sign_in, client, fetcher)


@router.get("", openapi_extra=OPEN_TO_ALL)
async def list_ways(request: Request) -> SignInWays:
    """Say how people may sign in here."""
    return SignInWays(oidc=request.app.state.oidc is not None)


@router.get("/oidc", status_code=302, response_class=RedirectResponse, openapi_extra=OPEN_TO_ALL)
async def begin(request: Request, project_id: Annotated[str, Query(max_length=64)] = "") -> Response:
    """Send the browser to the identity provider."""
    oidc = _oidc(request)
    way = await oidc.begin(visitor(request), project_id)
    answer = RedirectResponse(way.url, 302, {"Cache-Control": "no-store"})
    answer.set_cookie(
        COOKIE, way.browser, max_age=LASTS_S, path="/", secure=oidc.is_secure, httponly=True, samesite="lax"
    )
    return answer


@router.get("/oidc/callback", openapi_extra=OPEN_TO_ALL)
async def finish(request: Request, response: Response, sent: Annotated[WayBack, Query()]) -> SessionObject:
    """Take the browser back, and make a session."""
    oidc = _oidc(request)
    response.delete_cookie(COOKIE, path="/", secure=oidc.is_secure, httponly=True, samesite="lax")
    response.headers["Cache-Control"] = "no-store"
    if sent.error is not None:
        raise SignInFailed("The identity provider did not sign you in", "Begin again, or ask its administrator.")
    made = await oidc.finish(
        state=sent.state,
        code=sent.code,
        browser=request.cookies.get(COOKIE, ""),
        visitor=visitor(request),
        issuer=sent.iss,
    )
    return new_session_object(made)


def _oidc(request: Request) -> Oidc:
    oidc: Oidc | None = request.app.state.oidc
    if oidc is None:
        raise NotFound("sign-in with", "oidc", "Sign in with a password, or have DAYSPRING_OIDC_ISSUER set.")
    return oidc
