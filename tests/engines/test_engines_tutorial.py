"""The guide's engine works as printed: installed by an entry point, it passes the contract."""

import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from dayspring.compute.service import Compute
from dayspring.contracts import registry
from dayspring.contracts.devices import Device
from dayspring.contracts.models import Ability, Model
from dayspring.core.settings import Settings
from dayspring.testing.contract import EngineContract

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "write-an-engine.md"


def block(language: str) -> str:
    """The guide's first block in a language."""
    found = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_engine_has_under_forty_lines_of_code() -> None:
    assert 10 < len([line for line in block("python").splitlines() if line.strip()]) < 40


class TestMirror(EngineContract):
    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A folder as pip leaves it: the module, and the metadata that names its entry point."""
        folder = tmp_path / "site"
        metadata = folder / "mirror_engine-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / "mirror_engine.py").write_text(block("python"), encoding="utf-8")
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mirror-engine\nVersion: 1.0\n")
        line = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", block("toml")).replace('"', "")
        (metadata / "entry_points.txt").write_text(line)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        registry._found.cache_clear()
        yield folder
        registry._found.cache_clear()
        sys.modules.pop("mirror_engine", None)

    @pytest.fixture
    async def compute(self, installed: Path, tmp_path: Path) -> AsyncIterator[Compute]:
        assert "mirror" in registry.engines()
        compute = Compute(Settings(home=tmp_path, memory_bytes=1 << 30), devices=[Device("cpu", "cpu")])
        yield compute
        await compute.close()

    @pytest.fixture
    def model(self) -> Model:
        return Model("mirror", "mirror", (Ability.CHAT,), memory_bytes=1)
