"""Cross-encoders on llama.cpp: the engine contract with a tiny one made here, in a real worker process."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from llamacpp_models import running

from dayspring.compute.service import Compute
from dayspring.contracts.events import Rerank
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import RerankTask
from dayspring.hub.description import abilities_of
from dayspring.testing.contract import EngineContract, collect
from tiny_models import write_reranker

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTEXT = 96


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Compute]:
    async with running(tmp_path_factory.mktemp("home")) as compute:
        yield compute


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = write_reranker(tmp_path_factory.mktemp("reranker") / "tiny.gguf", context=CONTEXT)
    return Model(
        "tiny-reranker", "llamacpp", (Ability.RERANK,), format="gguf", path=str(path),
        size_bytes=path.stat().st_size, context_tokens=CONTEXT,
        metadata={"pooling": "rank", "embedding_length": 32, "head_count": 2, "block_count": 1},
    )  # fmt: skip


class TestLlamaCppReranking(EngineContract):
    @pytest.fixture
    def compute(self, workers: Compute) -> Compute:
        return workers

    @pytest.fixture
    def model(self, reranker: Model) -> Model:
        return reranker

    async def test_more_documents_than_a_group_keep_their_order(self, compute: Compute, model: Model) -> None:
        documents = tuple("abcdefghijklmnopqrstuvwxyz")
        together = await collect(compute, model, RerankTask("a b", documents))
        found = [event.score for event in together if isinstance(event, Rerank)]
        alone = await collect(compute, model, RerankTask("a b", documents[20:21]))
        assert found[20] == pytest.approx(next(each.score for each in alone if isinstance(each, Rerank)), abs=1e-3)
        assert all(0 < score < 1 for score in found)
        assert len(set(found)) > 20


async def test_its_header_says_what_it_is_for() -> None:
    assert abilities_of("gguf", {"architecture": "bert", "pooling": "rank"}) == (Ability.RERANK,)
