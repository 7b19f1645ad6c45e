"""What stands before the routes: proxies believed or not, names, root paths, pages of others, and what answers say."""

from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from asgi import Answer, visit
from dayspring.core.settings import Settings
from dayspring.web import errors
from dayspring.web.context import client_address
from dayspring.web.edge.entry import Entry
from dayspring.web.edge.forwarded import Forwarded
from dayspring.web.edge.hosts import Hosts, is_loopback
from dayspring.web.middleware import BodyLimit, RequestFrame

PROXY, OTHER = "10.0.0.1", "198.51.100.9"


async def _tell(request: Request) -> Response:
    client = request.client.host if request.client else ""
    told = {"client": client, "context": client_address(), "base": str(request.base_url), "path": request.url.path}
    return JSONResponse(told)


async def _page(request: Request) -> Response:
    return HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'self'", "Cache-Control": "max-age=1"})


async def _size(request: Request) -> Response:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return JSONResponse({"size": size})


def made(**settings: Any) -> FastAPI:
    """An app framed as the server's own."""
    frame = Middleware(
        RequestFrame,
        entry=Entry(Settings(**settings)),
        max_body_bytes=1000,
        observe=lambda *_: None,
        body_limits=dict.fromkeys(("/v1/files", "/v1/uploads/*/parts"), BodyLimit(5000, "DAYSPRING_MAX_FILE_BYTES")),
    )
    app = FastAPI(redirect_slashes=False, middleware=[frame])
    errors.install(app)
    for path in ("/", "/v1/tell", "/healthz"):
        app.add_api_route(path, _tell, response_model=None)
    app.add_api_route("/page", _page, response_model=None)
    for path in ("/v1/files", "/v1/files/{name}", "/v1/uploads/{name}/parts", "/v1/other"):
        app.add_api_route(path, _size, methods=["POST"], response_model=None)
    return app


async def told(app: FastAPI, headers: dict[str, str], *, peer: str = PROXY, path: str = "/v1/tell") -> Answer:
    return await visit(app, "GET", path, headers={"host": "127.0.0.1:8420", **headers}, host=peer)


CHAINS = [
    ({"x-forwarded-for": "203.0.113.7"}, "203.0.113.7"),
    ({"x-forwarded-for": "203.0.113.7, 10.0.0.2"}, "203.0.113.7"),
    ({"x-forwarded-for": "1.2.3.4, 203.0.113.7"}, "203.0.113.7"),  # the client said 1.2.3.4 itself
    ({"x-forwarded-for": "1.2.3.4, 203.0.113.7, 10.0.0.2"}, "203.0.113.7"),
    ({"x-forwarded-for": "10.0.0.3, 10.0.0.2"}, "10.0.0.3"),
    ({"x-forwarded-for": "203.0.113.7:5000"}, "203.0.113.7"),
    ({"x-forwarded-for": "[2001:db8::1]:80"}, "2001:db8::1"),
    ({"x-forwarded-for": "2001:db8::1"}, "2001:db8::1"),
    ({"x-forwarded-for": "unknown"}, PROXY),
    ({"x-forwarded-for": "203.0.113.7, unknown, 10.0.0.2"}, "10.0.0.2"),
    ({"x-forwarded-for": "' or 1=1--"}, PROXY),
    ({"x-forwarded-for": ""}, PROXY),
    ({"forwarded": "for=1.2.3.4"}, PROXY),  # the kind that this proxy does not set
    ({}, PROXY),
]


@pytest.mark.parametrize(("headers", "client"), CHAINS)
async def test_the_client_is_the_first_from_our_side_that_is_no_proxy(headers: dict[str, str], client: str) -> None:
    answer = await told(made(trusted_proxies="10.0.0.0/24"), headers)
    assert (answer.json["client"], answer.json["context"]) == (client, client)


FORWARDED = [
    ("for=203.0.113.7;proto=https;host=ai.example.com", "203.0.113.7", "https://ai.example.com/"),
    ('for="[2001:db8::1]:80";proto=https;host="ai.example.com:8443"', "2001:db8::1", "https://ai.example.com:8443/"),
    ("For=203.0.113.7, for=10.0.0.2;proto=http", "203.0.113.7", "http://127.0.0.1:8420/"),
    ("for=1.2.3.4;host=evil.example, for=203.0.113.7;host=ai.example.com", "203.0.113.7", "http://ai.example.com/"),
    ("for=_hidden", PROXY, "http://127.0.0.1:8420/"),
    ('for="1.2.3.4, for=5.6.7.8', "5.6.7.8", "http://127.0.0.1:8420/"),
    (";;;,,,=", PROXY, "http://127.0.0.1:8420/"),
]


@pytest.mark.parametrize(("value", "client", "base"), FORWARDED)
async def test_the_standard_header_is_read_where_the_proxy_sets_that(value: str, client: str, base: str) -> None:
    app = made(trusted_proxies="10.0.0.0/24", proxy_headers="forwarded")
    answer = await told(app, {"forwarded": value, "x-forwarded-for": "9.9.9.9"})
    assert (answer.json["client"], answer.json["base"]) == (client, base)


async def test_scheme_and_host_are_those_of_the_client_when_the_proxy_says_so() -> None:
    headers = {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https", "x-forwarded-host": "ai.example.com"}
    answer = await told(made(trusted_proxies=PROXY), headers)
    assert answer.json["base"] == "https://ai.example.com/"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"])
async def test_nobody_else_is_believed(name: str) -> None:
    value = {"x-forwarded-proto": "https", "forwarded": "for=1.2.3.4;proto=https;host=a.example"}.get(name, "1.2.3.4")
    for settings in ({}, {"trusted_proxies": PROXY}, {"trusted_proxies": PROXY, "proxy_headers": "forwarded"}):
        answer = await told(made(**settings), {name: value}, peer=OTHER)
        assert (answer.json["client"], answer.json["base"]) == (OTHER, "http://127.0.0.1:8420/")


@given(st.lists(st.text(max_size=30), max_size=5), st.sampled_from(["x-forwarded", "forwarded"]))
def test_whatever_is_forwarded_the_client_is_an_address(values: list[str], kind: Any) -> None:
    lines = [text.encode("utf-8", "ignore").replace(b"\n", b"") for text in values]
    names = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded")
    scope = {"client": (PROXY, 1), "scheme": "http", "headers": [(name, line) for name in names for line in lines]}
    Forwarded([PROXY], kind).apply(scope)
    assert Forwarded(["::/0", "0.0.0.0/0"], kind).trusts(scope["client"][0])
    assert scope["scheme"] in ("http", "https")


NAMES = [
    ({}, "127.0.0.1:8420", True), ({}, "localhost", True), ({}, "LOCALHOST.:8420", True), ({}, "[::1]:8420", True),
    ({}, "a.localhost", True), ({}, "192.0.2.1", True), ({}, "evil.example", False), ({}, "localhost.evil", False),
    ({}, "127.0.0.1.evil.example", False), ({}, "a" * 5000, False), ({}, "evil.example:80", False), ({}, "é", False),
    ({"host": "0.0.0.0"}, "anything.example", True),
    ({"host": "0.0.0.0", "allowed_hosts": "ai.example.com"}, "ai.example.com:443", True),
    ({"host": "0.0.0.0", "allowed_hosts": "ai.example.com"}, "other.example.com", False),
    ({"host": "0.0.0.0", "allowed_hosts": "*.example.com"}, "ai.example.com", True),
    ({"host": "0.0.0.0", "allowed_hosts": "*.example.com"}, "aiexample.com", False),
    ({"allowed_hosts": "AI.example.com"}, "ai.EXAMPLE.com", True),
    ({"trusted_proxies": PROXY}, "ai.example.com", True),
    ({"trusted_proxies": PROXY, "allowed_hosts": "a.example"}, "b.example", False),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "host", "passes"), NAMES)
async def test_a_loopback_server_answers_to_its_own_names_only(
    settings: dict[str, Any], host: str, passes: bool
) -> None:
    answer = await told(made(**{"allow_plain_http": True, **settings}), {"host": host})
    if passes:
        assert answer.status == 200
    else:
        assert (answer.status, answer.error["code"]) == (421, "misdirected")


def test_what_is_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.1", "::ffff:10.0.0.1", "a", ""))
    assert not Hosts((), "0.0.0.0").checked


async def test_behind_a_proxy_in_plain_http_nobody_comes_past_it() -> None:
    app = made(host="0.0.0.0", trusted_proxies=PROXY)
    assert (await told(app, {"x-forwarded-for": OTHER})).status == 200
    refused = await told(app, {}, peer=OTHER)
    assert (refused.status, refused.error["code"]) == (403, "permission_denied")
    pretended = await told(app, {"x-forwarded-for": PROXY}, peer=OTHER)
    assert pretended.status == 403
    assert (await told(app, {}, peer="127.0.0.1")).status == 200
    assert (await told(app, {}, peer=OTHER, path="/healthz")).status == 200
    assert (
        await told(made(host="0.0.0.0", trusted_proxies=PROXY, allow_plain_http=True), {}, peer=OTHER)
    ).status == 200


@pytest.mark.parametrize("path", ["/v1/tell", "/ai/gateway/v1/tell"])
async def test_a_root_path_works_whether_the_proxy_takes_it_off_or_not(path: str) -> None:
    answer = await told(made(root_path="/ai/gateway"), {}, path=path)
    assert answer.status == 200
    assert answer.json["base"] == "http://127.0.0.1:8420/ai/gateway/"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/ai", "/ai/", "/"])
async def test_the_root_of_a_root_path_is_the_first_page(path: str) -> None:
    assert (await told(made(root_path="/ai"), {}, path=path)).status == 200


async def test_a_path_that_only_begins_like_the_root_path_is_another() -> None:
    assert (await told(made(root_path="/ai"), {}, path="/ailment")).status == 404


async def test_every_answer_carries_the_headers_that_browsers_heed() -> None:
    app = made()
    for path, status in (("/v1/tell", 200), ("/nothing", 404), ("/page", 200)):
        answer = await told(app, {}, path=path)
        assert answer.status == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "strict-transport-security" not in answer.headers
    assert (await told(app, {"host": "evil.example"})).headers["x-content-type-options"] == "nosniff"


async def test_an_answer_of_the_api_is_kept_by_nobody_and_is_no_page() -> None:
    answer = await told(made(), {})
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_page_keeps_its_own_policy() -> None:
    answer = await told(made(), {}, path="/page")
    assert answer.headers["content-security-policy"] == "default-src 'self'"
    assert answer.headers["cache-control"] == "max-age=1"


APP = "https://app.example.com"


async def test_no_page_may_call_unless_its_origin_is_named_whole() -> None:
    for settings, origin in (
        ({}, APP),
        ({"cors_origins": APP}, "https://app.example.com.evil.example"),
        ({"cors_origins": APP}, "http://app.example.com"),
        ({"cors_origins": APP}, "null"),
    ):
        answer = await told(made(**settings), {"origin": origin})
        assert "access-control-allow-origin" not in answer.headers
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = await visit(made(**settings), "OPTIONS", "/v1/tell", headers=asked)
        assert preflight.status == 405
        assert "access-control-allow-origin" not in preflight.headers


async def test_a_named_page_may_call_with_its_own_key_and_no_cookie() -> None:
    app = made(cors_origins=APP)
    asked = {"origin": APP, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = await visit(app, "OPTIONS", "/v1/tell", headers=asked)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == APP
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    answer = await told(app, {"origin": APP})
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["vary"] == "Origin"
    assert "x-ratelimit-remaining-requests" in answer.headers["access-control-expose-headers"]
    for each in (preflight, answer):
        assert "access-control-allow-credentials" not in each.headers


@pytest.mark.parametrize(
    ("path", "limit"), [("/v1/files", 5000), ("/v1/uploads/x/parts", 5000), ("/v1/files/x", 1000), ("/v1/other", 1000)]
)
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("root", ["", "/ai"])
async def test_a_route_has_its_own_limit_on_bodies(path: str, limit: int, announced: bool, root: str) -> None:
    app = made(root_path=root)
    for size, status in ((limit, 200), (limit + 1, 413)):
        headers = {"content-length": str(size)} if announced else {}
        pieces = [b" " * min(500, size - place) for place in range(0, size, 500)]
        answer = await visit(app, "POST", root + path, body=pieces, headers=headers)
        assert answer.status == status
        if status == 413:
            setting = "MAX_FILE_BYTES" if limit == 5000 else "MAX_BODY_BYTES"
            assert setting in answer.error["message"]


@pytest.mark.parametrize("length", ["-1", "1e3", "a", "٣", "1, 2"])
async def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    headers = {"content-length": length} if length.isascii() else {"content-length": "\xb2"}
    answer = await visit(made(), "POST", "/v1/other", body=[b"a"], headers=headers)
    assert (answer.status, answer.error["code"]) == (400, "malformed")
