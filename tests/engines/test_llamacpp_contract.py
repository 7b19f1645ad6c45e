"""llama.cpp passes the engine contract with real models, in real worker processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from llamacpp_models import chat_model, embedding_model, running

from dayspring.compute.service import Compute
from dayspring.contracts.models import Model
from dayspring.testing.contract import EngineContract

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Compute]:
    async with running(tmp_path_factory.mktemp("home")) as compute:
        yield compute


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def minilm(default_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return await embedding_model(default_models, tmp_path_factory.mktemp("converted"))


class TestLlamaCppChat(EngineContract):
    long_words = 3_000

    @pytest.fixture
    def compute(self, workers: Compute) -> Compute:
        return workers

    @pytest.fixture
    def model(self, default_models: Path) -> Model:
        return chat_model(default_models)


class TestLlamaCppEmbedding(EngineContract):
    @pytest.fixture
    def compute(self, workers: Compute) -> Compute:
        return workers

    @pytest.fixture
    def model(self, minilm: Model) -> Model:
        return minilm
