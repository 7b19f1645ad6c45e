"""A fetcher as in production, one that may reach this machine, and a certificate."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

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
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)
