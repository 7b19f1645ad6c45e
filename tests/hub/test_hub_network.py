"""What may be reached, and who gets the secret."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from hub_kit import Serve

from dayspring.core.errors import Busy, DayspringError, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.hub.fetching import network
from dayspring.hub.fetching.network import Fetcher, Request, address_is_public


@pytest.fixture
async def strict() -> AsyncIterator[Fetcher]:
    """As in production."""
    fetcher = Fetcher(stall_s=2)
    yield fetcher
    await fetcher.close()


@pytest.fixture
async def lenient() -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(allow_loopback=True, stall_s=0.5)
    yield fetcher
    await fetcher.close()


async def body(fetcher: Fetcher, request: Request) -> bytes:
    async with fetcher.open(request) as answer:
        return await answer.document()


PRIVATE = [
    "https://127.0.0.1/a", "https://localhost/a", "https://10.0.0.1/a", "https://192.168.1.1/a", "https://172.16.0.1/a",
    "https://169.254.169.254/latest/meta-data", "https://[::1]/a", "https://[fd00:ec2::254]/a", "https://[fe80::1]/a",
    "https://[::ffff:127.0.0.1]/a", "https://[::ffff:10.0.0.1]/a", "https://[64:ff9b::a00:1]/a", "https://0.0.0.0/a",
    "https://[2002:7f00:1::]/a", "https://100.64.0.1/a", "https://printer.local/a", "https://224.0.0.1/a",
]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
async def test_a_users_address_never_reaches_a_private_network(strict: Fetcher, url: str) -> None:
    with pytest.raises(Refused):
        await body(strict, Request(url))


@pytest.mark.parametrize("url", ["https://169.254.169.254/", "https://[fe80::1]/", "https://[fd00:ec2::254]/"])
async def test_even_an_operators_address_never_reaches_a_metadata_service(strict: Fetcher, url: str) -> None:
    with pytest.raises(Refused):
        await body(strict, Request(url, operator=True))


@pytest.mark.parametrize("url", ["http://example.com/a", "ftp://example.com/a", "https://user:pw@example.com/a"])
async def test_plain_http_other_schemes_and_passwords_are_refused(strict: Fetcher, url: str) -> None:
    with pytest.raises(Refused) as caught:
        await body(strict, Request(url))
    assert "pw" not in caught.value.message


async def test_a_name_is_refused_when_it_resolves_into_a_private_network(
    strict: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inner(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict[str, object]]:
            entry = {"hostname": host, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
            return [{**entry, "host": "93.184.216.34"}, {**entry, "host": "127.0.0.1"}]

        async def close(self) -> None: ...

    monkeypatch.setattr(network, "ThreadedResolver", Inner)
    with pytest.raises(Refused, match="private network"):
        await body(strict, Request("https://rebinding.example/a"))


def test_embedded_addresses_count_as_what_they_hold() -> None:
    assert address_is_public("93.184.216.34")
    assert address_is_public("2606:2800:220:1::1")
    assert not address_is_public("::ffff:192.168.0.1")
    assert not address_is_public("64:ff9b::7f00:1")


async def test_a_redirect_leaves_the_secret_behind_when_it_goes_elsewhere(lenient: Fetcher, serve: Serve) -> None:
    seen: list[str | None] = []

    async def far(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(body=b"far")

    other = web.Application()
    other.router.add_get("/far", far)
    there = await serve(other)

    async def near(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        raise web.HTTPFound(f"{there}/far")

    async def moved(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        raise web.HTTPTemporaryRedirect("/near")

    app = web.Application()
    app.router.add_get("/near", near)
    app.router.add_get("/moved", moved)
    here = await serve(app)
    secret = {"Authorization": "Bearer secret"}
    assert await body(lenient, Request(f"{here}/moved", {}, secret)) == b"far"
    assert seen == ["Bearer secret", "Bearer secret", None]


async def test_a_redirect_to_a_metadata_service_is_refused(lenient: Fetcher, serve: Serve) -> None:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest")

    app = web.Application()
    app.router.add_get("/", away)
    with pytest.raises(Refused, match="private network"):
        await body(lenient, Request(f"{await serve(app)}/", operator=True))


async def test_a_redirect_of_a_strict_fetch_into_loopback_is_refused(serve: Serve) -> None:
    """The operator's own mirror on loopback is reached; a plain user's address there is not."""
    app = web.Application()
    app.router.add_get("/", _hello)
    here = await serve(app)
    fetcher = Fetcher(stall_s=2)
    try:
        assert await body(fetcher, Request(f"{here}/", operator=True)) == b"hello"
        with pytest.raises(Refused):
            await body(fetcher, Request(f"{here}/"))
    finally:
        await fetcher.close()


async def _hello(request: web.Request) -> web.Response:
    return web.Response(body=b"hello")


async def test_redirects_without_end_are_refused(lenient: Fetcher, serve: Serve) -> None:
    async def round_and_round(request: web.Request) -> web.Response:
        raise web.HTTPFound("/")

    app = web.Application()
    app.router.add_get("/", round_and_round)
    with pytest.raises(Refused, match="without end"):
        await body(lenient, Request(f"{await serve(app)}/"))


async def test_an_answer_over_the_limit_is_refused(lenient: Fetcher, serve: Serve) -> None:
    async def large(request: web.Request) -> web.Response:
        return web.Response(body=bytes(1 << 20))

    app = web.Application()
    app.router.add_get("/", large)
    async with lenient.open(Request(f"{await serve(app)}/")) as answer:
        with pytest.raises(Refused, match="over 1000 bytes"):
            await answer.document(1000)


async def test_a_server_that_stalls_is_given_up(lenient: Fetcher, serve: Serve) -> None:
    done = asyncio.Event()

    async def stall(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"a")
        await done.wait()
        return response

    app = web.Application()
    app.router.add_get("/", stall)
    with pytest.raises(Unavailable):
        await body(lenient, Request(f"{await serve(app)}/"))
    done.set()


STATUS: list[tuple[int, type[DayspringError]]] = [
    (401, PermissionDenied), (403, PermissionDenied), (404, NotFound), (429, Busy), (500, Unavailable),
]  # fmt: skip


@pytest.mark.parametrize(("status", "kind"), STATUS)
async def test_a_bad_status_becomes_an_error_that_says_what_to_do(
    lenient: Fetcher, serve: Serve, status: int, kind: type[DayspringError]
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "7"})

    app = web.Application()
    app.router.add_get("/", answer)
    url = f"{await serve(app)}/?token=secret"
    with pytest.raises(kind) as caught:
        await body(lenient, Request(url))
    assert "secret" not in caught.value.message
    assert caught.value.message.endswith(".")


async def test_a_host_that_is_not_there_is_unavailable(lenient: Fetcher, unused_tcp_port: int) -> None:
    with pytest.raises(Unavailable):
        await body(lenient, Request(f"http://127.0.0.1:{unused_tcp_port}/"))


async def test_the_proxy_of_the_environment_is_used_though_it_is_private(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def proxy(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(body=b"through the proxy")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", proxy)
    monkeypatch.setenv("http_proxy", (await serve(app)).replace("127.0.0.1", "localhost"))
    fetcher = Fetcher(stall_s=2)
    try:
        assert await body(fetcher, Request("http://index.example/simple/", operator=True)) == b"through the proxy"
        with pytest.raises(Refused):
            await body(fetcher, Request("https://10.0.0.1/"))
    finally:
        await fetcher.close()
    assert seen == ["http://index.example/simple/"]
