"""Reranking on the library's server: a cross-encoder reads the query with each document, in small groups.

What holds: scores in the order of the documents, each the model's own through the logistic function, 0 to 1.
"""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial

import msgspec

from dayspring.contracts.events import Event, Rerank
from dayspring.contracts.tasks import RerankTask, Task
from dayspring.core.errors import InvalidRequest
from dayspring.engines.llamacpp.grouped import Answer, GroupedSession, Item, in_order
from dayspring.engines.llamacpp.local_http import tokenize_body

__all__ = ["RerankSession"]

_GROUP = 8
_MARKS = 4
"""Tokens that the model puts around a query and a document: at the start, between them, at the end."""


class _Score(Item):
    relevance_score: float


class _Scores(Answer):
    results: tuple[_Score, ...] = ()


class RerankSession(GroupedSession):
    async def run(self, task: Task) -> AsyncIterator[Event]:
        if not isinstance(task, RerankTask):
            raise InvalidRequest(f"{self._model.id!r} reranks only. Choose another model.", param="model")
        counts = partial(self._counts, task)
        await self._check_lengths(list(_bounds(task)), counts, task.prompt_limit, param="documents")
        groups = [task.documents[start : start + _GROUP] for start in range(0, len(task.documents), _GROUP)]
        rank = partial(self._rank, task.query)
        async with aclosing(self._in_groups(groups, rank, _scored)) as events:
            async for event in events:
                yield event

    async def count_tokens(self, task: Task) -> int:
        if not isinstance(task, RerankTask):
            raise InvalidRequest(f"{self._model.id!r} reranks only. Choose another model.", param="model")
        return sum(await self._counts(task))

    async def _counts(self, task: RerankTask) -> list[int]:
        """Tokens of each document with the query, as the library puts them together."""
        query = await self._alone(task.query)
        return [query + await self._alone(document) + _MARKS for document in task.documents]

    async def _alone(self, text: str) -> int:
        return await self._tokens(tokenize_body(text) | {"add_special": False})

    def _rank(self, query: str, documents: tuple[str, ...]) -> tuple[list[float], int]:
        """On a thread."""
        asked = msgspec.json.encode({"query": query, "documents": documents}).decode()
        scores, tokens = self._read(self._server.handle_rerank(asked), _Scores)
        return [score.relevance_score for score in in_order(scores.results, len(documents))], tokens


def _scored(index: int, score: float) -> Event:
    return Rerank(index, 1 / (1 + math.exp(-score)))


def _bounds(task: RerankTask) -> Iterator[int]:
    query = len(task.query.encode())
    for document in task.documents:
        yield query + len(document.encode()) + _MARKS
