"""What may be reached, and who gets the secret."""

import asyncio
import socket

import pytest
from aiohttp import web
from net_kit import Names, body, hello

from dayspring.core.errors import Busy, DayspringError, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.net import resolution
from dayspring.net.fetcher import Fetcher, Request
from loopback import Serve

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


async def test_a_name_is_refused_when_any_of_its_addresses_is_private(
    strict: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(mixed_example=[["93.184.216.34", "127.0.0.1"]])
    monkeypatch.setattr(resolution, "ThreadedResolver", names)
    with pytest.raises(Refused, match="private network"):
        await body(strict, Request("https://mixed.example/a"))
    assert names.asked == ["mixed.example"]


async def test_a_name_that_answers_otherwise_the_second_time_is_asked_once_a_connection(
    strict: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer passes the check, the second is this machine."""
    names = Names(rebinding_example=[["93.184.216.34"], ["127.0.0.1"]])
    monkeypatch.setattr(resolution, "ThreadedResolver", names)
    connected: list[str] = []

    def deaf(_: resolution.CheckedResolver, info: tuple[int, int, int, str, tuple[str, int]]) -> socket.socket:
        connected.append(info[4][0])
        raise ConnectionRefusedError

    monkeypatch.setattr(resolution.CheckedResolver, "socket", deaf)
    with pytest.raises(Unavailable):
        await body(strict, Request("https://rebinding.example/"))
    assert names.asked == ["rebinding.example"]
    assert connected == ["93.184.216.34"]
    with pytest.raises(Refused):
        await body(strict, Request("https://rebinding.example/"))
    assert connected == ["93.184.216.34"]


async def test_the_socket_itself_goes_to_no_private_address_whatever_was_resolved() -> None:
    resolver = resolution.CheckedResolver(private=False, allow_loopback=False)
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))
    with pytest.raises(Refused):
        resolver.socket(info)


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

    site = web.Application()
    site.router.add_get("/near", near)
    site.router.add_get("/moved", moved)
    here = await serve(site)
    secret = {"Authorization": "Bearer secret"}
    assert await body(lenient, Request(f"{here}/moved", {}, secret)) == b"far"
    assert seen == ["Bearer secret", "Bearer secret", None]


async def test_a_redirect_to_a_metadata_service_is_refused(lenient: Fetcher, serve: Serve) -> None:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest")

    site = web.Application()
    site.router.add_get("/", away)
    with pytest.raises(Refused, match="private network"):
        await body(lenient, Request(f"{await serve(site)}/", operator=True))


async def test_a_redirect_of_a_strict_fetch_into_loopback_is_refused(serve: Serve) -> None:
    """The operator's own mirror on loopback is reached; a plain user's address there is not."""
    site = web.Application()
    site.router.add_get("/", hello)
    here = await serve(site)
    fetcher = Fetcher(stall_s=2)
    try:
        assert await body(fetcher, Request(f"{here}/", operator=True)) == b"hello"
        with pytest.raises(Refused):
            await body(fetcher, Request(f"{here}/"))
    finally:
        await fetcher.close()


async def test_redirects_without_end_are_refused(lenient: Fetcher, serve: Serve) -> None:
    async def round_and_round(request: web.Request) -> web.Response:
        raise web.HTTPFound("/")

    site = web.Application()
    site.router.add_get("/", round_and_round)
    with pytest.raises(Refused, match="without end"):
        await body(lenient, Request(f"{await serve(site)}/"))


async def test_an_answer_over_the_limit_is_refused(lenient: Fetcher, serve: Serve) -> None:
    async def large(request: web.Request) -> web.Response:
        return web.Response(body=bytes(1 << 20))

    site = web.Application()
    site.router.add_get("/", large)
    async with lenient.open(Request(f"{await serve(site)}/")) as answer:
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

    site = web.Application()
    site.router.add_get("/", stall)
    with pytest.raises(Unavailable):
        await body(lenient, Request(f"{await serve(site)}/"))
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

    site = web.Application()
    site.router.add_get("/", answer)
    url = f"{await serve(site)}/?token=secret"
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

    site = web.Application()
    site.router.add_route("*", "/{path:.*}", proxy)
    monkeypatch.setenv("http_proxy", (await serve(site)).replace("127.0.0.1", "localhost"))
    fetcher = Fetcher(stall_s=2)
    try:
        assert await body(fetcher, Request("http://index.example/simple/", operator=True)) == b"through the proxy"
        with pytest.raises(Refused):
            await body(fetcher, Request("https://10.0.0.1/"))
    finally:
        await fetcher.close()
    assert seen == ["http://index.example/simple/"]
