"""A stand-in for an identity provider: discovery, authorization, token and keys over a loopback socket.

It speaks the protocol as the standard has it, refuses what a provider refuses (another redirect, a used code, a wrong
proof key or secret), and lies in the one way a test asks for.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web
from joserfc import jwk, jwt

__all__ = ["StandInProvider"]

Claims = dict[str, Any]


class StandInProvider:
    def __init__(self) -> None:
        self.rsa: Any = jwk.RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
        self.ec: Any = jwk.ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig"})
        self.person: Claims = {"sub": "person-1", "email": "ann@acme.example", "email_verified": True, "name": "Ann"}
        self.change: Callable[[Claims], Claims] = lambda claims: claims
        """What is wrong with the claims."""
        self.sign: Callable[[Claims], str] = self.honest
        """What is wrong with the signature."""
        self.named = ""
        """What it calls itself; empty: what it is."""
        self.codes: dict[str, dict[str, str]] = {}
        self.fetched: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/jwks", self._jwks)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def honest(self, claims: Claims, key: Any = None) -> str:
        key = key or self.rsa
        algorithm = "RS256" if key is self.rsa else "ES256"
        return jwt.encode({"alg": algorithm, "kid": key.kid}, claims, key, algorithms=[algorithm])

    def unsigned(self, claims: Claims) -> str:
        """`alg: none`."""
        head = {"alg": "none", "kid": "rsa-1", "typ": "JWT"}
        return ".".join((_b64(json.dumps(head).encode()), _b64(json.dumps(claims).encode()), ""))

    def signed_with_the_public_key(self, claims: Claims) -> str:
        """Key confusion: HS256, with the public key everyone can fetch as the secret."""
        head = _b64(json.dumps({"alg": "HS256", "kid": "rsa-1"}).encode())
        said = f"{head}.{_b64(json.dumps(claims).encode())}"
        mac = hmac.new(self.rsa.as_pem(private=False), said.encode(), hashlib.sha256).digest()
        return f"{said}.{_b64(mac)}"

    def signed_by_a_stranger(self, claims: Claims) -> str:
        """A key that calls itself as the provider's does."""
        other = jwk.RSAKey.generate_key(2048, {"kid": "rsa-1"})
        return jwt.encode({"alg": "RS256", "kid": "rsa-1"}, claims, other, algorithms=["RS256"])

    def with_its_own_key(self, claims: Claims) -> str:
        """A token that brings the key it was signed with."""
        other = jwk.RSAKey.generate_key(2048)
        head = {"alg": "RS256", "jwk": other.as_dict(private=False)}
        return jwt.encode(head, claims, other, algorithms=["RS256"])

    async def _discovery(self, _request: web.Request) -> web.Response:
        self.fetched.append("discovery")
        return web.json_response(
            {
                "issuer": self.named or self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "response_types_supported": ["code"],
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        back = urlencode({"code": code, "state": asked["state"], "iss": self.url})
        raise web.HTTPFound(f"{asked['redirect_uri']}?{back}")

    async def _token(self, request: web.Request) -> web.Response:
        self.fetched.append("token")
        form = await request.post()
        asked = self.codes.pop(str(form["code"]), None)
        basic = "Basic " + base64.b64encode(b"dayspring:s3cret").decode()
        proof = _b64(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        if (
            asked is None
            or request.headers.get("Authorization") != basic
            or form["redirect_uri"] != asked["redirect_uri"]
            or proof != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": "dayspring",
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **self.person,
        }
        return web.json_response(
            {"access_token": "x", "token_type": "Bearer", "id_token": self.sign(self.change(claims))}
        )

    async def _jwks(self, _request: web.Request) -> web.Response:
        self.fetched.append("jwks")
        keys = [self.rsa.as_dict(private=False), self.ec.as_dict(private=False)]
        shared = {"kty": "oct", "kid": "rsa-1", "k": _b64(b"a secret that should never be here")}
        return web.json_response({"keys": [shared, *keys]})


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def query_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
