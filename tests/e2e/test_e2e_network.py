"""A real server as operators put it up: over TLS, behind a reverse proxy, on an address that others reach."""

import asyncio
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web

from certificates import make_certificate, shown
from live import LiveServer, echo_model, free_port

HOPS = ("connection", "keep-alive", "transfer-encoding", "content-length", "host", "te", "upgrade")


@asynccontextmanager
async def proxy(target: str, *, root: str = "", strips: bool = True, client: str = "203.0.113.7") -> AsyncIterator[str]:
    """A reverse proxy as people set one up: its address under `root`, which it takes off or leaves."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        path = request.raw_path.removeprefix(root) if strips else request.raw_path
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOPS}
        seen = f"{request.headers['X-Forwarded-For']}, {client}" if "X-Forwarded-For" in request.headers else client
        headers |= {"X-Forwarded-For": seen, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "ai.example.com"}
        body = await request.read()
        async with session.request(
            request.method, target + (path or "/"), headers=headers, data=body, allow_redirects=False
        ) as answer:
            passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOPS}
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(app)
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}{root}"
        finally:
            await runner.cleanup()


@asynccontextmanager
async def running(home: Path, **environment: str) -> AsyncIterator[tuple[LiveServer, str]]:
    server = LiveServer(home, **environment)
    if "DAYSPRING_TLS_CERT" in environment:
        server.url = server.url.replace("http:", "https:")
    key = await server.prepare(echo_model())
    await server.start()
    try:
        yield server, key
    finally:
        assert await server.stop() == 0


async def get(url: str, **more: Any) -> tuple[int, Any, Any]:
    async with aiohttp.ClientSession() as session, session.get(url, **more) as response:
        kind = response.content_type
        return response.status, await (response.json() if kind == "application/json" else response.text()), response


@pytest.mark.parametrize("strips", [True, False])
async def test_behind_a_proxy_under_a_path_everything_is_in_its_place(tmp_path: Path, strips: bool) -> None:
    settings = {"DAYSPRING_TRUSTED_PROXIES": "127.0.0.1", "DAYSPRING_ROOT_PATH": "/ai", "DAYSPRING_LOG_FORMAT": "json"}
    async with running(tmp_path, **settings) as (server, key), proxy(server.url, root="/ai", strips=strips) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key)
        async with client:
            stream = await client.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            assert [chunk async for chunk in stream]
        _, document, response = await get(f"{url}/openapi.json")
        assert document["servers"][0] == {"url": "/ai"}
        assert response.headers["Strict-Transport-Security"]
        _, page, _ = await get(f"{url}/docs")
        assert 'href="openapi.json"' in page
        for path in ("", "/"):
            _, page, _ = await get(url + path)
            assert "https://ai.example.com/ai" in page
            assert 'href="/ai/docs"' in page
        lied = {"X-Forwarded-For": "198.51.100.1", "Forwarded": "for=198.51.100.2"}
        assert (await get(f"{url}/v1/models", headers=lied))[0] == 401
        assert (await get(f"{url}/metrics"))[0] == 403
    log = (tmp_path / "server.log").read_text()
    assert '"address":"203.0.113.7"' in log
    assert "198.51.100" not in log


async def test_a_server_over_tls_serves_the_client_and_a_renewed_certificate(tmp_path: Path) -> None:
    made, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    home = tmp_path / "home"
    home.mkdir()
    settings = {"DAYSPRING_TLS_CERT": str(made.cert), "DAYSPRING_TLS_KEY": str(made.key)}
    async with running(home, **settings) as (server, key):
        trusted = ssl.create_default_context(cafile=made.cert)
        http = openai.DefaultAsyncHttpxClient(verify=trusted)
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, http_client=http) as client:
            assert (await client.embeddings.create(model="echo", input="hi")).data
        _, _, response = await get(f"{server.url}/healthz", ssl=trusted)
        assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
        with pytest.raises(aiohttp.ClientError):
            await get(f"http://127.0.0.1:{server.port}/healthz")
        shutil.copy(other.key, made.key)
        shutil.copy(other.cert, made.cert)
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(20):
            while await shown(server.port) != other.serial:  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(0.02)


UNSAFE = [
    (["--host", "0.0.0.0"], {}, "clear text"),
    (["--host", "0.0.0.0", "--tls-cert", "none.pem", "--tls-key", "none.pem"], {}, "cannot be read"),
    (["--tls-cert", "none.pem"], {}, "TLS needs both"),
    (["--root-path", "/v1"], {}, "DAYSPRING_ROOT_PATH"),
    ([], {"DAYSPRING_TRUSTED_PROXIES": "everyone"}, "DAYSPRING_TRUSTED_PROXIES"),
    ([], {"DAYSPRING_TRUSTED_PROXIES": "0.0.0.0/0"}, "believe every client"),
]


@pytest.mark.parametrize(("words", "settings", "reason"), UNSAFE)
def test_a_start_that_is_not_safe_is_one_sentence(
    tmp_path: Path, words: list[str], settings: dict[str, str], reason: str
) -> None:
    command = [sys.executable, "-m", "dayspring", "serve", "--home", str(tmp_path / "home"), "--port", "0", *words]
    ran = subprocess.run(command, env={"PATH": "", **settings}, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert reason in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "home").exists()


async def test_an_open_bind_that_the_operator_asked_for_serves(tmp_path: Path) -> None:
    """As in a container: every address, plain HTTP, and any name that the network gives it."""
    settings = {"DAYSPRING_HOST": "0.0.0.0", "DAYSPRING_ALLOW_PLAIN_HTTP": "true"}
    async with running(tmp_path, **settings) as (server, key):
        headers = {"Authorization": f"Bearer {key}", "Host": "dayspring.svc.cluster.local"}
        assert (await get(f"{server.url}/v1/models", headers=headers))[0] == 200
        assert (await get(f"{server.url}/v1/models"))[0] == 401


async def test_a_page_that_points_its_name_at_this_machine_reads_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, _):
        for path in ("/metrics", "/", "/docs", "/openapi.json", "/healthz"):
            status, told, _ = await get(server.url + path, headers={"Host": "rebinding.example"})
            assert (status, told["error"]["code"]) == (421, "misdirected")
