"""The vllm engine passes the engine contract, with a stand-in for the program behind its own socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import vllm_kit
from vllm_stand_in import CONTEXT_TOKENS

from dayspring.compute.service import Compute
from dayspring.contracts.models import Ability, Model
from dayspring.testing.contract import EngineContract


class TestVllm(EngineContract):
    @pytest.fixture
    async def compute(self, tmp_path: Path) -> AsyncIterator[Compute]:
        async with vllm_kit.running(tmp_path) as compute:
            yield compute

    @pytest.fixture
    def model(self, tmp_path: Path) -> Model:
        return vllm_kit.folder_model(tmp_path / "model", context_tokens=CONTEXT_TOKENS)


class TestVllmEmbedding(TestVllm):
    @pytest.fixture
    def model(self, tmp_path: Path) -> Model:
        return vllm_kit.folder_model(tmp_path / "model", context_tokens=CONTEXT_TOKENS, abilities=(Ability.EMBEDDING,))
