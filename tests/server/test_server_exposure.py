"""What must be true before other machines can reach the server, and which routes answer without a key."""

from pathlib import Path
from typing import Any

import pytest
from server_house import api_routes, served

from asgi import visit
from dayspring.core.errors import PermissionDenied
from dayspring.core.settings import Settings
from dayspring.server.exposure import check_exposure, notes

PUBLIC = {
    ("GET", "/"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/healthz"), ("GET", "/readyz"),
    ("GET", "/metrics"), ("GET", "/v1/sign_in"),
}  # fmt: skip
"""Routes that need no key. Each is here for a reason that docs/guide/network.md gives."""
SIGN_IN = {
    ("POST", "/v1/sessions"), ("POST", "/v1/invites/accept"), ("POST", "/v1/password_resets/use"),
    ("GET", "/v1/sign_in/oidc"), ("GET", "/v1/sign_in/oidc/callback"),
}  # fmt: skip
"""Where people get what they sign in with: nobody has a key yet, and each asks for a secret of its own."""
TLS = {"tls_cert": "cert.pem", "tls_key": "key.pem"}

UNSAFE: list[dict[str, Any]] = [
    {"host": "0.0.0.0"}, {"host": "::"}, {"host": "192.0.2.1"}, {"host": "example.com"},
    {"host": "0.0.0.0", "metrics_public": True},
    {"host": "0.0.0.0", "trusted_proxies": "10.0.0.1", "metrics_public": True},
    {"trusted_proxies": "0.0.0.0/0"}, {"host": "0.0.0.0", "trusted_proxies": "10.0.0.1,::/0", **TLS},
]  # fmt: skip
SAFE: list[dict[str, Any]] = [
    {}, {"host": "::1"}, {"host": "localhost"}, {"host": "127.0.0.2"}, {"host": "0.0.0.0", **TLS},
    {"host": "0.0.0.0", "trusted_proxies": "10.0.0.1"}, {"host": "0.0.0.0", "allow_plain_http": True},
    {"host": "0.0.0.0", "allow_plain_http": True, "metrics_public": True},
    {"host": "0.0.0.0", "metrics_public": True, **TLS}, {"metrics_public": True},
]  # fmt: skip


@pytest.mark.parametrize("settings", UNSAFE, ids=str)
def test_an_unsafe_bind_is_refused_with_what_to_do(settings: dict[str, Any]) -> None:
    with pytest.raises(PermissionDenied) as caught:
        check_exposure(Settings(**settings))
    assert "DAYSPRING_" in caught.value.message
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("settings", SAFE, ids=str)
def test_a_safe_bind_passes_and_says_who_can_reach_it(settings: dict[str, Any]) -> None:
    made = Settings(**settings)
    check_exposure(made)
    assert bool(notes(made)) == (settings.get("host") == "0.0.0.0")


def test_no_setting_turns_authentication_off() -> None:
    """Names that would: one of them would be a mistake waiting to be made."""
    words = ("auth", "anonymous", "no_key", "insecure", "public_api", "open_access", "master", "disable")
    assert [name for name in Settings.model_fields if any(word in name for word in words)] == []


async def test_every_route_but_the_public_ones_asks_for_a_key(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        routes = {(method, route.path) for route in api_routes(here.app.routes) for method in route.methods or ()}
        assert len(routes) > 15
        asked = [route for route in sorted(routes - PUBLIC - SIGN_IN) if route[0] != "HEAD"]
        for method, path in asked:
            for headers in ({}, {"authorization": "Bearer ds-nothing"}, {"authorization": ""}, {"x-api-key": "x"}):
                answer = await visit(here.app, method, path.replace("{", "").replace("}", ""), json={}, headers=headers)
                assert (answer.status, answer.error["code"]) == (401, "invalid_api_key"), (method, path, headers)


async def test_who_signs_in_needs_a_secret(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        for method, path in sorted(SIGN_IN):
            for body in ({}, {"email": "a@b.example", "password": "x", "token": "x", "code": "x", "state": "x"}):
                answer = await visit(here.app, method, path, json=body)
                assert answer.status in (400, 401, 404), (path, body)
                assert answer.error["message"]


async def test_the_public_routes_say_nothing_of_anybodys(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        for method, path in sorted(PUBLIC):
            answer = await visit(here.app, method, path, host="203.0.113.7")
            assert answer.status == (403 if path == "/metrics" else 200), path
            assert here.key.encode() not in answer.body


async def test_metrics_do_not_leave_through_a_proxy_on_this_machine(tmp_path: Path) -> None:
    for settings in ({}, {"trusted_proxies": "127.0.0.1"}):
        async with served(tmp_path / str(len(settings)), **settings) as here:
            for headers in ({"x-forwarded-for": "203.0.113.7"}, {"forwarded": "for=203.0.113.7"}):
                assert (await visit(here.app, "GET", "/metrics", headers=headers)).status == 403
            assert (await visit(here.app, "GET", "/metrics")).status == 200
