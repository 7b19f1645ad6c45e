"""The upstream engine passes the engine contract, against a service on loopback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dayspring.compute.service import Compute
from dayspring.contracts.devices import Device
from dayspring.contracts.models import Ability, Model
from dayspring.core.settings import Settings
from dayspring.testing.contract import EngineContract
from dayspring.testing.upstream import FakeUpstream

CONTEXT_TOKENS = 4000


class TestUpstream(EngineContract):
    counts_exactly = False

    @pytest.fixture
    async def compute(self, tmp_path: Path) -> AsyncIterator[Compute]:
        compute = Compute(Settings(home=tmp_path, memory_bytes=1 << 30), devices=[Device("cpu", "cpu", "test", 1, 2)])
        yield compute
        await compute.close()

    @pytest.fixture
    async def model(self) -> AsyncIterator[Model]:
        async with FakeUpstream(context_tokens=CONTEXT_TOKENS) as fake:
            targets = [{"url": fake.url, "model": "stub"}]
            yield Model("up", "upstream", tuple(Ability), context_tokens=CONTEXT_TOKENS, options={"targets": targets})
