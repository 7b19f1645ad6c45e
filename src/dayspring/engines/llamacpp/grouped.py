"""What embedding and reranking share: a task's work goes to the library in small groups, each when its turn comes.

What holds: answers in the order of the groups; a call that is left starts no further group, and a place at the door is
free only when the library is done with it. What it does not do: choose the groups, or ask the library.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import msgspec

from dayspring.contracts.events import Event, Usage
from dayspring.contracts.models import Model
from dayspring.core.errors import ContextLengthExceeded, Defect, PromptOverLimit
from dayspring.engines.llamacpp.chunks import failure
from dayspring.engines.llamacpp.layout import Layout
from dayspring.engines.llamacpp.local_http import LocalServer
from dayspring.engines.llamacpp.turns import Turns

__all__ = ["Answer", "GroupedSession", "Item", "in_order"]


class Item(msgspec.Struct):
    """What the library found for one of a group."""

    index: int


class _Count(msgspec.Struct):
    prompt_tokens: int


class Answer(msgspec.Struct):
    """The library's, for one group."""

    usage: _Count | None = None
    error: dict[str, Any] | None = None


G = TypeVar("G")
V = TypeVar("V")
A = TypeVar("A", bound=Answer)
T = TypeVar("T", bound=Item)


class GroupedSession:
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

    async def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._server = None
        self._folder.cleanup()

    async def _in_groups(
        self, groups: Iterable[G], ask: Callable[[G], tuple[list[V], int]], event: Callable[[int, V], Event]
    ) -> AsyncGenerator[Event, None]:
        """An event for each value that `ask` finds, with its place among all, then Usage. `ask` runs on a thread, and
        tells the tokens of its group too."""
        pending = [asyncio.ensure_future(self._in_turn(ask, group)) for group in groups]
        tokens = index = 0
        try:
            for answer in pending:
                values, used = await answer
                tokens += used
                for value in values:
                    yield event(index, value)
                    index += 1
        finally:
            for answer in pending:  # those that have no thread yet never start
                answer.cancel()
        yield Usage(tokens, fingerprint=self._mark)

    async def _in_turn(self, ask: Callable[[G], tuple[list[V], int]], group: G) -> tuple[list[V], int]:
        number = await self._turns.enter()
        loop = asyncio.get_running_loop()
        work = self._threads.submit(ask, group)
        # A call that is cancelled does not stop the library, so its place is free when the thread is.
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._turns.leave, number))
        return await asyncio.wrap_future(work)

    async def _check_lengths(
        self, bounds: Sequence[int], counts: Callable[[], Awaitable[list[int]]], limit: int | None, *, param: str
    ) -> None:
        """Counts only where `bounds`, numbers of bytes, leave a doubt: a token is at least one."""
        context = self._plan.context_tokens
        if max(bounds, default=0) <= context and (limit is None or sum(bounds) <= limit):
            return
        counted = await counts()
        if (longest := max(counted)) > context:
            raise ContextLengthExceeded(
                model=self._model.id, prompt_tokens=longest, context_tokens=context, param=param
            )
        if limit is not None and sum(counted) > limit:
            raise PromptOverLimit(sum(counted))

    async def _tokens(self, body: dict[str, Any]) -> int:
        """How many tokens a text is; `body` as `tokenize_body` makes it."""
        answer = await asyncio.to_thread(self._local.post, "/tokenize", body)
        if "error" in answer:
            raise failure(self._model.id, answer["error"])
        return len(answer["tokens"])

    def _read(self, found: Any, kind: type[A]) -> tuple[A, int]:
        """What the library answered, and the tokens it read. Raises what it refused."""
        answer = msgspec.convert(found, kind) if isinstance(found, dict) else msgspec.json.decode(found, type=kind)
        if answer.error is not None:
            raise failure(self._model.id, answer.error)
        if answer.usage is None:
            raise Defect
        return answer, answer.usage.prompt_tokens


def in_order(items: Sequence[T], count: int) -> list[T]:
    """The items of a group of `count`, as they were asked. Raises Defect where some are missing."""
    if len(items) != count:
        raise Defect
    return sorted(items, key=lambda item: item.index)
