"""Servers of the test's own on loopback: what the outside plays in a test."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

__all__ = ["Serve", "serve"]

Serve = Callable[[web.Application], Awaitable[str]]


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
