"""Reranking on the library's server: a cross-encoder reads the query with each document, in small groups.

What holds: scores in the order of the documents, each the model's own through the logistic function, 0 to 1.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from dayspring.contracts.events import Event, Rerank, Usage
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import RerankTask, Task
from dayspring.core.errors import ContextLengthExceeded, Defect, InvalidRequest, PromptOverLimit
from dayspring.engines.llamacpp.chunks import failure
from dayspring.engines.llamacpp.layout import Layout
from dayspring.engines.llamacpp.local_http import LocalServer, tokenize_body
from dayspring.engines.llamacpp.turns import Turns

__all__ = ["RerankSession"]

_GROUP = 8
_MARKS = 4
"""Tokens that the model puts around a query and a document: at the start, between them, at the end."""


class _Score(msgspec.Struct):
    index: int
    relevance_score: float


class _Count(msgspec.Struct):
    prompt_tokens: int


class _Answer(msgspec.Struct):
    results: list[_Score] = []
    usage: _Count | None = None
    error: dict[str, Any] | None = None


class RerankSession:
    def __init__(
        self, server: Any, local: LocalServer, folder: "TemporaryDirectory[str]", model: Model, plan: Layout, mark: str
    ) -> None:
        self._server = server
        self._local = local
        self._folder = folder
        self._model = model
        self._plan = plan
        self._mark = mark
        self._threads = ThreadPoolExecutor(plan.slots, "llamacpp")
        self._turns = Turns(plan.slots)

    @property
    def parallel(self) -> int:
        return self._plan.slots

    async def run(self, task: Task) -> AsyncIterator[Event]:
        if not isinstance(task, RerankTask):
            raise InvalidRequest(f"{self._model.id!r} reranks only. Choose another model.", param="model")
        await self._check_lengths(task)
        groups = [task.documents[start : start + _GROUP] for start in range(0, len(task.documents), _GROUP)]
        pending = [asyncio.ensure_future(self._in_turn(task.query, group)) for group in groups]
        tokens = index = 0
        try:
            for answer in pending:
                scores, used = await answer
                tokens += used
                for score in scores:
                    yield Rerank(index, 1 / (1 + math.exp(-score)))
                    index += 1
        finally:
            for answer in pending:  # those that have no thread yet never start
                answer.cancel()
        yield Usage(tokens, fingerprint=self._mark)

    async def count_tokens(self, task: Task) -> int:
        if not isinstance(task, RerankTask):
            raise InvalidRequest(f"{self._model.id!r} reranks only. Choose another model.", param="model")
        return sum([count async for count in self._counts(task)])

    async def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._server = None
        self._folder.cleanup()

    async def _check_lengths(self, task: RerankTask) -> None:
        """Counts only where the number of bytes leaves a doubt: a token is at least one."""
        context, limit = self._plan.context_tokens, task.prompt_limit
        bounds = list(_bounds(task))
        if max(bounds) <= context and (limit is None or sum(bounds) <= limit):
            return
        counts = [count async for count in self._counts(task)]
        if (longest := max(counts)) > context:
            raise ContextLengthExceeded(
                model=self._model.id, prompt_tokens=longest, context_tokens=context, param="documents"
            )
        if limit is not None and sum(counts) > limit:
            raise PromptOverLimit(sum(counts))

    async def _counts(self, task: RerankTask) -> AsyncIterator[int]:
        """Tokens of each document with the query, as the library puts them together."""
        query = await self._tokens(task.query)
        for document in task.documents:
            yield query + await self._tokens(document) + _MARKS

    async def _tokens(self, text: str) -> int:
        body = tokenize_body(text) | {"add_special": False}
        answer = await asyncio.to_thread(self._local.post, "/tokenize", body)
        if "error" in answer:
            raise failure(self._model.id, answer["error"])
        return len(answer["tokens"])

    async def _in_turn(self, query: str, documents: tuple[str, ...]) -> tuple[list[float], int]:
        number = await self._turns.enter()
        loop = asyncio.get_running_loop()
        work = self._threads.submit(self._rank, query, documents)
        # A call that is cancelled does not stop the library, so its place is free when the thread is.
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._turns.leave, number))
        return await asyncio.wrap_future(work)

    def _rank(self, query: str, documents: tuple[str, ...]) -> tuple[list[float], int]:
        """On a thread."""
        asked = msgspec.json.encode({"query": query, "documents": documents}).decode()
        found = self._server.handle_rerank(asked)
        answer = (
            msgspec.convert(found, _Answer) if isinstance(found, dict) else msgspec.json.decode(found, type=_Answer)
        )
        if answer.error is not None:
            raise failure(self._model.id, answer.error)
        if answer.usage is None or len(answer.results) != len(documents):
            raise Defect
        answer.results.sort(key=lambda score: score.index)
        return [score.relevance_score for score in answer.results], answer.usage.prompt_tokens


def _bounds(task: RerankTask) -> Iterator[int]:
    query = len(task.query.encode())
    for document in task.documents:
        yield query + len(document.encode()) + _MARKS
