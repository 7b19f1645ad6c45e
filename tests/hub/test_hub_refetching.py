"""Models that a restore brought without their files: fetched again, and taken only where nothing has changed."""

import shutil
from pathlib import Path

import pytest
from hub_files import gguf
from hub_kit import MakeHub

from dayspring.blobs.disk import DiskBlobs
from dayspring.core.errors import DayspringError
from dayspring.hub.service import Hub


async def _added(hub: Hub, file: Path) -> Path:
    return Path((await hub.add(await hub.plan(f"file:{file}", "mine", licence="MIT"), "me")).path)


def _lost(hub_home: Path, blobs: DiskBlobs) -> None:
    """As a backup without models leaves it."""
    shutil.rmtree(hub_home / "models" / "mine")
    for place in (blobs.root / "sha256").glob("*/*/*"):
        place.unlink()


async def test_a_missing_model_is_fetched_from_its_source(make_hub: MakeHub, tmp_path: Path, blobs: DiskBlobs) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf())
    hub = make_hub()
    path = await _added(hub, file)
    assert await hub.fetch_missing() == []
    _lost(tmp_path / "home", blobs)
    assert hub.relink() == ["mine"]
    assert await hub.fetch_missing() == ["mine"]
    assert path.read_bytes() == gguf()
    assert [model.id for model in await hub.list()] == ["mine"]
    await hub.verify("mine")
    shutil.rmtree(path.parent)
    assert hub.relink() == []
    assert path.read_bytes() == gguf()


async def test_what_a_source_gives_otherwise_now_is_not_taken(
    make_hub: MakeHub, tmp_path: Path, blobs: DiskBlobs
) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(gguf())
    hub = make_hub()
    path = await _added(hub, file)
    _lost(tmp_path / "home", blobs)
    file.write_bytes(gguf() + b"more")
    with pytest.raises(DayspringError, match="other files"):
        await hub.fetch_missing()
    assert not path.exists()
    assert [model.id for model in await hub.list()] == ["mine"]
    assert list((blobs.root / "sha256").glob("*/*/*")) == []
    file.unlink()
    with pytest.raises(DayspringError):
        await hub.fetch_missing()
