"""Embeddings on the library's server: inputs in small groups, so that a cancelled call stops soon.

What holds: vectors in the order of the inputs, little-endian float32, of unit length.
"""

import asyncio
import math
import sys
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from dayspring.contracts.events import Embedding, Event, Usage
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import EmbeddingTask, Task
from dayspring.core.errors import ContextLengthExceeded, Defect, InvalidRequest, PromptOverLimit, UnsupportedParameter
from dayspring.engines.llamacpp.chunks import failure
from dayspring.engines.llamacpp.layout import Layout
from dayspring.engines.llamacpp.local_http import LocalServer, tokenize_body
from dayspring.engines.llamacpp.turns import Turns

__all__ = ["EmbeddingSession"]

_GROUP_INPUTS = 16
_GROUP_BYTES = 1024
_MARKS = 2
"""Tokens a model puts around an input."""

_Input = str | tuple[int, ...]


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Count(msgspec.Struct):
    prompt_tokens: int


class _Answer(msgspec.Struct):
    data: list[_Vector] = []
    usage: _Count | None = None
    error: dict[str, Any] | None = None


class EmbeddingSession:
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
        if not isinstance(task, EmbeddingTask):
            raise InvalidRequest(f"{self._model.id!r} makes embeddings only. Choose a chat model.", param="model")
        if task.dimensions is not None and not self._model.metadata.get("matryoshka"):
            raise UnsupportedParameter("dimensions", "this model's vectors were not trained to be cut")
        inputs = self._inputs(task)
        await self._check_lengths(inputs, task.prompt_limit)
        pending = [asyncio.ensure_future(self._in_turn(group)) for group in _groups(inputs)]
        tokens = index = 0
        try:
            for answer in pending:
                vectors, used = await answer
                tokens += used
                for values in vectors:
                    yield Embedding(index, _unit(values, task.dimensions))
                    index += 1
        finally:
            for answer in pending:  # those that have no thread yet never start
                answer.cancel()
        yield Usage(tokens, fingerprint=self._mark)

    async def count_tokens(self, task: Task) -> int:
        if not isinstance(task, EmbeddingTask):
            raise InvalidRequest(f"{self._model.id!r} makes embeddings only. Choose a chat model.", param="model")
        return sum([await self._count(item) for item in self._inputs(task)])

    async def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._server = None
        self._folder.cleanup()

    def _inputs(self, task: EmbeddingTask) -> list[_Input]:
        purposes = [task.purpose] * len(task.inputs)
        if task.queries:
            purposes = ["query" if place < task.queries else "document" for place in range(len(task.inputs))]
        known = {purpose: str(self._model.options.get(f"{purpose}_prefix", "")) for purpose in ("query", "document")}
        prefixes = (known.get(purpose, "") for purpose in purposes)
        return [
            prefix + item if isinstance(item, str) else item for prefix, item in zip(prefixes, task.inputs, strict=True)
        ]

    async def _check_lengths(self, inputs: Sequence[_Input], limit: int | None) -> None:
        """Counts only where the number of bytes leaves a doubt: a token is at least one."""
        bounds = [len(item.encode() if isinstance(item, str) else item) + _MARKS for item in inputs]
        context = self._plan.context_tokens
        if max(bounds, default=0) <= context and (limit is None or sum(bounds) <= limit):
            return
        counts = [await self._count(item) for item in inputs]
        if (longest := max(counts)) > context:
            raise ContextLengthExceeded(
                model=self._model.id, prompt_tokens=longest, context_tokens=context, param="input"
            )
        if limit is not None and sum(counts) > limit:
            raise PromptOverLimit(sum(counts))

    async def _count(self, item: _Input) -> int:
        if isinstance(item, tuple):
            return len(item)
        answer = await asyncio.to_thread(self._local.post, "/tokenize", tokenize_body(item))
        if "error" in answer:
            raise failure(self._model.id, answer["error"])
        return len(answer["tokens"])

    async def _in_turn(self, group: list[_Input]) -> tuple[list[list[float]], int]:
        number = await self._turns.enter()
        loop = asyncio.get_running_loop()
        work = self._threads.submit(self._embed, group)
        # A call that is cancelled does not stop the library, so its place is free when the thread is.
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._turns.leave, number))
        return await asyncio.wrap_future(work)

    def _embed(self, group: list[_Input]) -> tuple[list[list[float]], int]:
        """On a thread."""
        found = self._server.handle_embeddings(msgspec.json.encode({"input": group}).decode())
        answer = (
            msgspec.convert(found, _Answer) if isinstance(found, dict) else msgspec.json.decode(found, type=_Answer)
        )
        if answer.error is not None:
            raise failure(self._model.id, answer.error)
        if answer.usage is None or len(answer.data) != len(group):
            raise Defect
        answer.data.sort(key=lambda vector: vector.index)
        return [vector.embedding for vector in answer.data], answer.usage.prompt_tokens


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
