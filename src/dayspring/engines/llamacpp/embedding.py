"""Embeddings on the library's server: inputs in small groups, so that a cancelled call stops soon.

What holds: vectors in the order of the inputs, little-endian float32, of unit length.
"""

import math
import sys
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from dayspring.contracts.events import Embedding, Event
from dayspring.contracts.tasks import EmbeddingTask, Task
from dayspring.core.errors import InvalidRequest, UnsupportedParameter
from dayspring.engines.llamacpp.grouped import Answer, GroupedSession, Item, in_order
from dayspring.engines.llamacpp.local_http import tokenize_body

__all__ = ["EmbeddingSession"]

_GROUP_INPUTS = 16
_GROUP_BYTES = 1024
_MARKS = 2
"""Tokens a model puts around an input."""

_Input = str | tuple[int, ...]


class _Vector(Item):
    embedding: list[float]


class _Vectors(Answer):
    data: tuple[_Vector, ...] = ()


class EmbeddingSession(GroupedSession):
    async def run(self, task: Task) -> AsyncIterator[Event]:
        if not isinstance(task, EmbeddingTask):
            raise InvalidRequest(f"{self._model.id!r} makes embeddings only. Choose a chat model.", param="model")
        if task.dimensions is not None and not self._model.metadata.get("matryoshka"):
            raise UnsupportedParameter("dimensions", "this model's vectors were not trained to be cut")
        inputs = self._inputs(task)
        bounds = [len(item.encode() if isinstance(item, str) else item) + _MARKS for item in inputs]
        await self._check_lengths(bounds, partial(self._counts, inputs), task.prompt_limit, param="input")

        def embedded(index: int, values: list[float]) -> Event:
            return Embedding(index, _unit(values, task.dimensions))

        async with aclosing(self._in_groups(_groups(inputs), self._embed, embedded)) as events:
            async for event in events:
                yield event

    async def count_tokens(self, task: Task) -> int:
        if not isinstance(task, EmbeddingTask):
            raise InvalidRequest(f"{self._model.id!r} makes embeddings only. Choose a chat model.", param="model")
        return sum(await self._counts(self._inputs(task)))

    def _inputs(self, task: EmbeddingTask) -> list[_Input]:
        purposes = [task.purpose] * len(task.inputs)
        if task.queries:
            purposes = ["query" if place < task.queries else "document" for place in range(len(task.inputs))]
        known = {purpose: str(self._model.options.get(f"{purpose}_prefix", "")) for purpose in ("query", "document")}
        prefixes = (known.get(purpose, "") for purpose in purposes)
        return [
            prefix + item if isinstance(item, str) else item for prefix, item in zip(prefixes, task.inputs, strict=True)
        ]

    async def _counts(self, inputs: Sequence[_Input]) -> list[int]:
        return [len(item) if isinstance(item, tuple) else await self._tokens(tokenize_body(item)) for item in inputs]

    def _embed(self, group: list[_Input]) -> tuple[list[list[float]], int]:
        """On a thread."""
        asked = msgspec.json.encode({"input": group}).decode()
        vectors, tokens = self._read(self._server.handle_embeddings(asked), _Vectors)
        return [vector.embedding for vector in in_order(vectors.data, len(group))], tokens


def _groups(inputs: Sequence[_Input]) -> Iterator[list[_Input]]:
    group: list[_Input] = []
    size = 0
    for item in inputs:
        if group and (len(group) == _GROUP_INPUTS or size + len(item) > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(item)
        size += len(item)
    if group:
        yield group


def _unit(values: list[float], dimensions: int | None) -> bytes:
    kept = values[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in kept)) or 1.0
    packed = array("f", [value / length for value in kept])
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
