"""A hub on an empty home, and an engine that only says what it would run."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hub_files import gguf
from hub_kit import ENGINES, MakeHub

from dayspring.blobs.disk import DiskBlobs
from dayspring.contracts.clock import SystemClock
from dayspring.core.settings import Settings
from dayspring.hub.catalogue import CataloguedModel
from dayspring.hub.service import Hub
from dayspring.net.fetcher import Fetcher
from dayspring.store.database import Database


@pytest.fixture(autouse=True)
def quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No pip configuration, proxy or home of the machine's reaches a test."""
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def database(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Database]:
    """One on SQLite: what differs between databases is tested with the store."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copyfile(migrated_sqlite, home / "dayspring.db")
    opened = Database.open(f"sqlite:///{home / 'dayspring.db'}")
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "home" / "blobs")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Tiny-Chat.gguf"
    path.write_bytes(gguf())
    return path


@pytest.fixture
async def make_hub(tmp_path: Path, database: Database, blobs: DiskBlobs) -> AsyncIterator[MakeHub]:
    """A hub whose settings are the arguments. It may reach loopback unless told otherwise."""
    made: list[Hub] = []

    def make(
        *, allow_loopback: bool = True, catalogued: dict[str, CataloguedModel] | None = None, **values: object
    ) -> Hub:
        settings = Settings(home=tmp_path / "home", **values)  # type: ignore[arg-type]
        fetcher = Fetcher(allow_loopback=allow_loopback, stall_s=2)
        hub = Hub(
            database,
            blobs,
            settings,
            SystemClock(),
            fetcher=fetcher,
            engines=lambda: ENGINES,
            catalogued=catalogued or {},
            retry_pause_s=0,
        )
        made.append(hub)
        return hub

    yield make
    for hub in made:
        await hub.close()
