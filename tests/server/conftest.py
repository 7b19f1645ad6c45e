"""The app over an empty data folder, with the echo model; a test module that needs other models has its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from server_house import Served, served


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as made:
        yield made
