"""The echo engine passes the contract, and breaks on purpose as it says."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dayspring.compute.service import Compute
from dayspring.contracts.devices import Device
from dayspring.contracts.models import Ability, Model
from dayspring.core.settings import Settings
from dayspring.testing.contract import EngineContract
from dayspring.testing.echo import words


class TestEcho(EngineContract):
    @pytest.fixture
    async def compute(self, tmp_path: Path) -> AsyncIterator[Compute]:
        compute = Compute(Settings(home=tmp_path, memory_bytes=1 << 30), devices=[Device("cpu", "cpu", "test", 1, 2)])
        yield compute
        await compute.close()

    @pytest.fixture
    def model(self) -> Model:
        return Model("echo", "echo", tuple(Ability), context_tokens=4000, memory_bytes=1, options={"delay_s": 0.001})


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", []), ("a", ["a"]), ("a b", ["a ", "b"]), ("a  b\nc ", ["a  ", "b\n", "c "]), (" a b", [" a ", "b"])],
)
def test_the_words_of_a_text_add_up_to_it(text: str, tokens: list[str]) -> None:
    assert words(text) == tokens
    assert "".join(words(text)) == text
