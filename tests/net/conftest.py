"""A fetcher as in production, one that may reach this machine, and loopback servers for both."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from net_kit import Serve

from certificates import Certificate, make_certificate
from dayspring.net.fetcher import Fetcher


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


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


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts an application on loopback and gives its address, without a slash at the end."""
    servers: list[TestServer] = []

    async def start(application: web.Application) -> str:
        server = TestServer(application, host="127.0.0.1")
        await server.start_server()
        servers.append(server)
        return str(server.make_url("")).rstrip("/")

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)
