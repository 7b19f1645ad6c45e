"""The real app with two projects."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wounds_kit import Target

from server.server_house import served


@pytest.fixture
async def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Target]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with served(tmp_path / "home") as house:
        other = await house.house.accounts.create_project("other")
        owner, owners_key = await house.new_key(sees_cost=True)
        stranger, strangers_key = await house.new_key(project_id=other.id, sees_cost=True)
        yield Target(house, owner, owners_key, stranger, strangers_key)
