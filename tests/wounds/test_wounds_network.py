"""Wounds of peers that came over the network, one test each, against our real server, hub and engines."""

import asyncio
import ipaddress
import socket
from pathlib import Path

import pytest
from aiohttp import web
from wounds_kit import SOURCE, Target, imports

from asgi import visit
from dayspring.core.errors import DayspringError, PermissionDenied, Refused
from dayspring.core.settings import Settings
from dayspring.net.fetcher import Fetcher, Request
from dayspring.net.locations import location
from dayspring.server.exposure import check_exposure
from engines.upstream_asking import chat, events_of, session_for
from hub.hub_files import gguf
from live import LiveServer, echo_model
from loopback import Serve


async def _secret(_: web.Request) -> web.Response:
    return web.Response(body=gguf())


def answering(handler: object) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)  # type: ignore[arg-type]
    return app


async def test_ssrf_by_an_import_from_a_url(target: Target, serve: Serve) -> None:
    """LocalAI issues 9395 and 10665 (/models/apply), Dify CVE-2025-56520: a model's URL reaches an inner service."""
    inside = await serve(answering(_secret))
    port = inside.rpartition(":")[2]
    addresses = [
        f"{inside}/m.gguf", f"https://127.0.0.1:{port}/m.gguf", f"https://2130706433:{port}/m.gguf",
        f"https://0x7f.1:{port}/m.gguf", f"https://[::ffff:127.0.0.1]:{port}/m.gguf", "https://169.254.169.254/m.gguf",
        f"https://localhost:{port}/m.gguf", "https://[fd00:ec2::254]/m.gguf", "file:///etc/passwd", "gopher://x/m.gguf",
    ]  # fmt: skip
    for source in addresses:
        for method, path, body in (("GET", f"/v1/hub/plan?source={source}", None),
                                   ("POST", "/v1/hub/models", {"source": source})):  # fmt: skip
            assert (await visit(target.house.app, method, path, json=body)).status == 401
            assert (await target.ask(method, path, target.strangers_key, json=body)).status == 403
            asked = await target.house.ask(method, path, json=body)
            if source.startswith("file:"):  # the server's disk, which HTTP does not look at
                assert (asked.status, asked.error["code"]) == (403, "permission_denied")
            else:
                assert asked.status in (400, 404), (source, asked.body)
    assert "echo" in [model.id for model in await target.house.house.hub.list()]
    assert len(await target.house.house.hub.list()) == 1


async def test_ssrf_by_a_redirect(serve: Serve) -> None:
    """Open WebUI CVE-2026-45401: the address is checked, and what it redirects to is not."""
    reached: list[str] = []

    async def inner(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    inside = await serve(answering(inner))
    fetcher = Fetcher()
    try:
        for place in (inside, "http://169.254.169.254/", "https://[::1]/", "file:///etc/passwd", "//10.0.0.1/"):

            async def away(_: web.Request, place: str = place) -> web.Response:
                return web.Response(status=302, headers={"Location": place})

            # An operator's own mirror on this machine that redirects: what is private may stay so, metadata never.
            start = Request(f"{await serve(answering(away))}/", operator=True)
            if place not in (inside, "https://[::1]/", "//10.0.0.1/"):
                with pytest.raises(Refused):
                    await fetcher.get(start)
            with pytest.raises(Refused):
                await fetcher.post(start, json={})
    finally:
        await fetcher.close()
    assert not reached


def test_ssrf_by_a_difference_of_two_parsers() -> None:
    """Open WebUI CVE-2026-45400: one reader of URLs checks, another connects, and they do not agree on the host.

    Here one reader does both, what readers dispute is refused, and no other reader is used before a connection.
    """
    for text in (
        "https://public.example\\@127.0.0.1/", "https://public.example\t@127.0.0.1/", "https://a@b@127.0.0.1/",
        "https://public.example:80@127.0.0.1/", "https://127.0.0.1\\.public.example/", "https://[::1].example/",
        "https://127。0。0。1/", "https://①②⑦.0.0.1/", "https://0177.1/", "https://public.example%00.inside/",
    ):  # fmt: skip
        with pytest.raises(Refused):
            location(text)
    net = [path for path in SOURCE if path.parent.name == "net"]
    assert len(net) >= 5
    assert not [path for path, name in imports() if path in net and name in ("urllib", "urllib.parse.urlsplit")]
    assert not [path for path in net if "urlsplit" in path.read_text() or "urlparse" in path.read_text()]


def test_ssrf_nothing_else_goes_out() -> None:
    """All of them: a second HTTP client beside the careful one. Ours are known, and each has its reason."""
    clients = {"aiohttp", "httpx", "requests", "urllib.request", "urllib3", "http.client"}
    using = {str(path.relative_to(path.parents[path.parts[::-1].index("dayspring")])) for path, name in imports()
             if name.partition(".")[0] in clients or name in clients}  # fmt: skip
    known = {
        "net/", "engines/upstream/",  # the operator's own addresses, no redirect followed
        "engines/llamacpp/", "engines/vllm/",  # their own child process on this machine
        "testing/", "cli/bench",  # the operator's own terminal
    }  # fmt: skip
    found = {name.removeprefix("dayspring/") for name in using}
    assert [name for name in sorted(found) if not name.startswith(tuple(known))] == []


async def test_a_providers_key_is_not_sent_to_where_a_redirect_leads(serve: Serve) -> None:
    """LocalAI GHSA-3mj3-57v2-4636: the upstream's key goes along to another host."""
    seen: list[str] = []

    async def thief(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.json_response({})

    there = await serve(answering(thief))

    async def away(_: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": there})

    here = await serve(answering(away))
    async with session_for(f"{here}/v1", secrets={"127.0.0.1": "sk-provider"}) as session:
        with pytest.raises(DayspringError):
            await events_of(session, chat())
    assert seen == []
    fetcher = Fetcher(allow_loopback=True)
    try:
        await fetcher.get(Request(f"{here}/", secret_headers={"Authorization": "Bearer hf_token"}))
    finally:
        await fetcher.close()
    assert seen == [""]


def test_a_public_bind_without_protection() -> None:
    """LocalAI before its run_safety, Ray's dashboard: reachable by everybody because nobody said otherwise."""
    assert ipaddress.ip_address(Settings().host).is_loopback
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        with pytest.raises(PermissionDenied):
            check_exposure(Settings(host=host))


async def test_a_server_opens_one_port_and_no_other(tmp_path: Path) -> None:
    """Ray CVE-2023-48022 (ShadowRay), vLLM's /invocations: a second door beside the guarded one."""
    server = LiveServer(tmp_path)
    await server.prepare(echo_model())
    await server.start()
    try:
        pids = [server.pid, *server.worker_pids()]
        assert _listening(pids) == [("127.0.0.1", server.port)]
    finally:
        await server.stop()


def _listening(pids: list[int]) -> list[tuple[str, int]]:
    """Addresses on which these processes listen, from /proc."""
    inodes = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            link = entry.readlink() if entry.exists() or entry.is_symlink() else Path()
            if str(link).startswith("socket:["):
                inodes.add(str(link)[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, port = fields[1].split(":")
                raw = bytes.fromhex(address)
                words = b"".join(raw[place : place + 4][::-1] for place in range(0, len(raw), 4))
                family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
                found.append((socket.inet_ntop(family, words), int(port, 16)))
    return found


async def test_a_page_in_a_browser_rebinds_its_name_to_this_machine(target: Target) -> None:
    """Of several peers' local servers: a web page makes its name lead to 127.0.0.1 and reads what needs no key."""
    for path in ("/metrics", "/readyz", "/", "/v1/models"):
        answer = await target.house.ask("GET", path, headers={"host": "attacker.example"})
        assert (answer.status, answer.error["code"]) == (421, "misdirected")


async def test_a_picture_is_fetched_for_whoever_asks(target: Target, serve: Serve) -> None:
    """Open WebUI and vLLM: `image_url` as a way to reach inner services. Here a picture is sent, never fetched."""
    reached = asyncio.Event()

    async def inner(_: web.Request) -> web.Response:
        reached.set()
        return web.Response()

    inside = await serve(answering(inner))
    content = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": f"{inside}/a.png"}}]
    for path, body in (
        ("/v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": content}]}),
        ("/v1/responses", {"model": "echo", "input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": f"{inside}/a.png"}]}]}),
        ("/v1/messages", {"model": "echo", "max_tokens": 5, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": f"{inside}/a.png"}}]}]}),
    ):  # fmt: skip
        answer = await target.ask("POST", path, target.owners_key, json=body)
        assert answer.status in (200, 400), (path, answer.body)
    assert not reached.is_set()
