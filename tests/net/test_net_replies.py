"""Whole answers and their limits: size, time, compression; posts; what is never sent."""

import asyncio
import gzip
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from net_kit import Names, app, body, hello

from certificates import Certificate
from dayspring.core.errors import NotFound, Refused, Unavailable
from dayspring.net import resolution
from dayspring.net.fetcher import Fetcher, Request
from loopback import Serve


async def test_a_post_sends_json_or_a_form_and_gives_any_status_back(lenient: Fetcher, serve: Serve) -> None:
    async def receive(request: web.Request) -> web.Response:
        kind, text = request.headers["Content-Type"], await request.text()
        return web.json_response({"kind": kind, "text": text, "sent": request.method}, status=400)

    url = f"{await serve(app(hook=receive))}/hook"
    reply = await lenient.post(Request(url), json={"a": 1})
    assert (reply.status, reply.ok) == (400, False)
    assert reply.json() == {"kind": "application/json", "text": '{"a":1}', "sent": "POST"}
    assert (await lenient.post(Request(url), form={"a": "b c&d"})).json()["text"] == "a=b+c%26d"
    signed = Request(url, {"Content-Type": "application/octet-stream"})
    assert (await lenient.post(signed, body=b"raw")).json()["kind"] == "application/octet-stream"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_post_follows_no_redirect(lenient: Fetcher, serve: Serve, status: int) -> None:
    reached: list[str] = []

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/there"})

    async def there(request: web.Request) -> web.Response:
        reached.append(request.method)
        return web.Response()

    url = f"{await serve(app(hook=away, there=there))}/hook"
    with pytest.raises(Refused, match="redirects a POST"):
        await lenient.post(Request(url), json={})
    assert not reached


async def test_a_get_gives_the_whole_answer_after_redirects(lenient: Fetcher, serve: Serve) -> None:
    async def away(request: web.Request) -> web.Response:
        raise web.HTTPFound("there")

    async def there(request: web.Request) -> web.Response:
        return web.json_response({"a": 1}, headers={"X-Kind": "one"})

    here = await serve(app(moved=away, there=there, root=hello))
    reply = await lenient.get(Request(f"{here}/moved"))
    assert (reply.json(), reply.headers["x-kind"], reply.url) == ({"a": 1}, "one", f"{here}/there")
    with pytest.raises(NotFound):
        await lenient.get(Request(f"{here}/nothing"))
    assert (await lenient.get(Request(f"{here}/nothing", allow_missing=True))).status == 404
    with pytest.raises(Unavailable, match="not JSON"):
        (await lenient.get(Request(f"{here}/"))).json()


async def test_a_server_that_drips_is_given_up_after_the_whole_time(lenient: Fetcher, serve: Serve) -> None:
    """Each byte comes in time, so no limit on silence ends it."""
    ended = asyncio.Event()

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"a")
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    url = f"{await serve(app(root=drip))}/"
    with pytest.raises(Unavailable, match="did not answer within"):
        await lenient.get(Request(url), timeout_s=0.2)
    with pytest.raises(Unavailable, match="did not answer within"):
        await lenient.post(Request(url), json={}, timeout_s=0.2)
    bounded = Fetcher(allow_loopback=True, whole_s=0.2)
    with pytest.raises(Unavailable):
        await body(bounded, Request(url))
    await bounded.close()
    await ended.wait()


async def test_redirects_share_the_time_of_the_whole(lenient: Fetcher, serve: Serve) -> None:
    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(0.15)
        raise web.HTTPFound("/")

    bounded = Fetcher(allow_loopback=True, whole_s=0.3)
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await body(bounded, Request(f"{await serve(app(root=slow))}/"))
    assert asyncio.get_running_loop().time() - started < 1
    await bounded.close()


async def test_a_compressed_bomb_is_never_unpacked(lenient: Fetcher, serve: Serve) -> None:
    bomb = gzip.compress(bytes(50 << 20))

    async def send(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    url = f"{await serve(app(root=send))}/"
    with pytest.raises(Refused, match="compressed"):
        await lenient.get(Request(url), limit_bytes=1 << 20)
    async with lenient.open(Request(url)) as answer:
        assert b"".join([chunk async for chunk in answer.chunks()]) == bomb


async def test_a_body_without_end_is_cut_at_the_limit(lenient: Fetcher, serve: Serve) -> None:
    async def pour(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1 << 16))

    with pytest.raises(Refused, match="over 1048576 bytes"):
        await lenient.get(Request(f"{await serve(app(root=pour))}/"), limit_bytes=1 << 20)


async def test_endless_headers_are_refused(lenient: Fetcher, serve: Serve) -> None:
    async def many(request: web.Request) -> web.Response:
        return web.Response(headers={f"X-{number}": "a" * 4000 for number in range(1000)})

    with pytest.raises(Unavailable):
        await lenient.get(Request(f"{await serve(app(root=many))}/"))


async def test_no_cookie_and_no_password_of_the_machine_is_sent(
    lenient: Fetcher, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login name password word\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: list[dict[str, str]] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(headers={"Set-Cookie": "a=b"})

    url = f"{await serve(app(root=note))}/"
    await lenient.get(Request(url))
    await lenient.get(Request(url))
    assert len(seen) == 2
    assert not [name for headers in seen for name in headers if name.lower() in ("authorization", "cookie")]


async def test_a_callers_header_cannot_part_the_check_from_the_connection(lenient: Fetcher, serve: Serve) -> None:
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.headers["Host"])
        return web.Response()

    here = await serve(app(root=note))
    await lenient.get(Request(f"{here}/", {"Host": "metadata.internal", "Transfer-Encoding": "chunked"}))
    assert seen == [here.removeprefix("http://")]
    with pytest.raises(Unavailable):
        await lenient.get(Request(f"{here}/", {"X-A": "a\r\nX-B: b"}))


async def test_a_certificate_of_nobody_is_refused(lenient: Fetcher, certificate: Certificate) -> None:
    """Even on this machine: TLS is always verified."""
    reached: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(1))
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    server = await asyncio.start_server(note, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unavailable):
        await lenient.get(Request(f"https://127.0.0.1:{port}/", {}, {"Authorization": "Bearer secret"}))
    server.close()
    await server.wait_closed()
    assert not [data for data in reached if data]


async def test_a_name_that_leads_inside_is_refused_behind_a_proxy_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(inside_example=[["10.0.0.1"]])
    monkeypatch.setattr(resolution, "ThreadedResolver", names)
    monkeypatch.setenv("https_proxy", await serve(app(root=hello)))
    fetcher = Fetcher(stall_s=2)
    try:
        with pytest.raises(Refused, match="private network"):
            await body(fetcher, Request("https://inside.example/"))
    finally:
        await fetcher.close()
