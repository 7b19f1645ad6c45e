"""The identity provider: its discovery document, its keys, and the exchange of a code (OpenID Connect Discovery 1.0).

What holds: everything is fetched by the safe fetcher. The issuer's address is the operator's own, so it may be in a
private network; a place its document names may be so only on the same host, else it must be public. The document must
name the issuer exactly as it was set. The client's secret goes to the token endpoint only.
"""

import asyncio
import base64
from typing import Any
from urllib.parse import quote_plus, urlsplit

import msgspec

from dayspring.contracts.clock import Clock
from dayspring.core.errors import SignInFailed, Unavailable
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["Client", "Provider"]

_KNOWN_S = 3600
_ASKED_AGAIN_S = 30
"""How long an unknown key is not looked for again: a stranger's tokens must not make us fetch."""
_LIMIT_BYTES = 1 << 20


class Client(msgspec.Struct, frozen=True):
    """This server, as the provider knows it."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_url: str
    scopes: str

    def __repr__(self) -> str:
        return f"Client(issuer={self.issuer!r}, client_id={self.client_id!r})"


class Document(msgspec.Struct, frozen=True):
    """What is read of a discovery document."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str] = msgspec.field(default_factory=lambda: ["client_secret_basic"])


class Provider:
    def __init__(self, client: Client, fetcher: Fetcher, clock: Clock) -> None:
        self._client = client
        self._fetcher = fetcher
        self._clock = clock
        self._document: tuple[int, Document] | None = None
        self._keys: tuple[int, list[dict[str, Any]]] | None = None
        self._lock = asyncio.Lock()

    async def document(self) -> Document:
        """Raises Unavailable where it cannot be had, or names another issuer."""
        async with self._lock:
            if self._document is not None and self._age_s(self._document[0]) < _KNOWN_S:
                return self._document[1]
            place = f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration"
            reply = await self._fetcher.get(self._request(place), limit_bytes=_LIMIT_BYTES)
            try:
                found = msgspec.json.decode(reply.body, type=Document)
            except msgspec.DecodeError:
                raise self._broken("its discovery document cannot be read") from None
            if found.issuer != self._client.issuer:
                raise self._broken("it names itself otherwise than DAYSPRING_OIDC_ISSUER does")
            secure = self._client.issuer.startswith("https:")
            for place in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
                if not place.startswith(("https://",) if secure else ("https://", "http://")):
                    raise self._broken("an address it names is not one of HTTPS")
            self._document = (self._clock.monotonic_ns(), found)
            return found

    async def keys(self, kid: str | None) -> list[dict[str, Any]]:
        """The provider's keys; fetched again where the one that is named is not among them."""
        document = await self.document()
        async with self._lock:
            if self._keys is not None:
                age_s = self._age_s(self._keys[0])
                known = kid is None or any(key.get("kid") == kid for key in self._keys[1])
                if age_s < (_KNOWN_S if known else _ASKED_AGAIN_S):
                    return self._keys[1]
            reply = await self._fetcher.get(self._request(document.jwks_uri), limit_bytes=_LIMIT_BYTES)
            try:
                found = msgspec.json.decode(reply.body, type=dict[str, Any]).get("keys")
            except msgspec.DecodeError:
                found = None
            if not isinstance(found, list) or not all(isinstance(key, dict) for key in found):
                raise self._broken("its keys cannot be read")
            self._keys = (self._clock.monotonic_ns(), found)
            return found

    async def exchange(self, code: str, verifier: str) -> str:
        """The id_token for a code. Raises SignInFailed where the provider refuses it."""
        document, client = await self.document(), self._client
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_url,
            "code_verifier": verifier,
            "client_id": client.client_id,
        }
        request = self._request(document.token_endpoint)
        if client.client_secret and "client_secret_basic" in document.token_endpoint_auth_methods_supported:
            pair = f"{quote_plus(client.client_id)}:{quote_plus(client.client_secret)}"
            secret = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
            request = msgspec.structs.replace(request, secret_headers=secret)
        elif client.client_secret:
            form["client_secret"] = client.client_secret
        reply = await self._fetcher.post(request, form=form, limit_bytes=_LIMIT_BYTES)
        answer = reply.json() if reply.ok else {}
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise SignInFailed("The identity provider did not take the code", "Begin again.")
        return token

    def _request(self, url: str) -> Request:
        ours, theirs = urlsplit(self._client.issuer), urlsplit(url)
        own = (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)
        return Request(url, headers={"Accept": "application/json"}, operator=own)

    def _age_s(self, since_ns: int) -> float:
        return (self._clock.monotonic_ns() - since_ns) / 1e9

    def _broken(self, reason: str) -> Unavailable:
        return Unavailable(f"The identity provider cannot be used: {reason}", "Check DAYSPRING_OIDC_ISSUER.")
