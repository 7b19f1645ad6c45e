"""The door to the library's server: whoever is inside is overtaken a bounded number of times."""

import asyncio
import json
import threading
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import EmbeddingTask, RerankTask, Task
from dayspring.engines.llamacpp.embedding import EmbeddingSession
from dayspring.engines.llamacpp.layout import Layout
from dayspring.engines.llamacpp.local_http import LocalServer
from dayspring.engines.llamacpp.reranking import RerankSession
from dayspring.engines.llamacpp.turns import Turns

SLOTS = 4


class LowestSlotFirst:
    """Serves as the library does: a batch takes what fits from the slots in order, and passes over the rest."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.slots: list[tuple[int, asyncio.Future[None]] | None] = [None] * SLOTS

    async def handle(self, size: int) -> None:
        slot = self.slots.index(None)
        done = asyncio.get_running_loop().create_future()
        self.slots[slot] = (size, done)
        await done

    def step(self) -> None:
        room = self.batch
        for index, held in enumerate(self.slots):
            if held is not None and held[0] <= room:
                room -= held[0]
                held[1].set_result(None)
                self.slots[index] = None


async def _overtaken(sizes: list[int], turns: Turns) -> int:
    """The most that came later and left earlier, over all requests that were inside."""
    server = LowestSlotFirst(10)
    order: list[int] = []
    entered: list[int] = []

    async def ask(number: int, size: int) -> None:
        place = await turns.enter()
        entered.append(number)
        await server.handle(size)
        order.append(number)
        turns.leave(place)

    tasks = [asyncio.ensure_future(ask(number, size)) for number, size in enumerate(sizes)]
    while not all(task.done() for task in tasks):
        for _ in range(8):
            await asyncio.sleep(0)
        server.step()
    assert entered == sorted(entered), "the door is first come, first served"
    return max(sum(later > number for later in order[: order.index(number)]) for number in order)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=60))
def test_nobody_inside_is_overtaken_more_often_than_twice_the_slots(sizes: list[int]) -> None:
    assert asyncio.run(_overtaken(sizes, Turns(SLOTS))) <= 2 * SLOTS


def test_without_the_door_a_large_input_waits_for_all_others() -> None:
    class Open(Turns):
        def _admit(self) -> None:
            self._inside = dict.fromkeys(self._inside, 0)
            super()._admit()

    sizes = [6, 6, 6, 6] * 10
    assert asyncio.run(_overtaken(sizes, Open(SLOTS))) > 2 * SLOTS


async def test_one_who_stops_waiting_gives_up_the_place() -> None:
    turns = Turns(1)
    first = await turns.enter()
    waiter = asyncio.ensure_future(turns.enter())
    behind = asyncio.ensure_future(turns.enter())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    turns.leave(first)
    turns.leave(await asyncio.wait_for(behind, 5))
    assert await asyncio.wait_for(turns.enter(), 5) > first


class Library:
    """Answers at once, but for the slow one, which waits to be released."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.released = threading.Event()

    def handle_rerank(self, asked: str) -> dict[str, Any]:
        self._wait(json.loads(asked)["query"])
        return {"results": [{"index": 0, "relevance_score": 1.0}], "usage": {"prompt_tokens": 1}}

    def handle_embeddings(self, asked: str) -> dict[str, Any]:
        self._wait(json.loads(asked)["input"][0])
        return {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 1}}

    def _wait(self, text: str) -> None:
        if text == "slow":
            self.held.set()
            self.released.wait(20)


def _embedding(text: str) -> Task:
    return EmbeddingTask((text,))


def _reranking(text: str) -> Task:
    return RerankTask(text, ("d",))


@pytest.mark.parametrize(("kind", "ask"), [(EmbeddingSession, _embedding), (RerankSession, _reranking)])
async def test_no_one_enters_past_a_call_that_was_overtaken_as_often_as_there_are_slots(kind: Any, ask: Any) -> None:
    library, slots = Library(), 2
    model = Model("m", "llamacpp", (Ability.EMBEDDING,))
    plan = Layout(64, slots, 64 * slots, True, 64, 0)
    session = kind(library, LocalServer("nowhere", ""), TemporaryDirectory(), model, plan, "mark")

    async def run(text: str) -> None:
        assert [event async for event in session.run(ask(text))]

    slow = asyncio.ensure_future(run("slow"))
    await asyncio.to_thread(library.held.wait, 20)
    for _ in range(slots):
        await asyncio.wait_for(run("quick"), 20)
    late = asyncio.ensure_future(run("quick"))
    try:
        done, _ = await asyncio.wait({late}, timeout=0.2)
        assert not done, "it overtook a call that had been overtaken enough"
    finally:
        library.released.set()
        await asyncio.gather(slow, late)
        await session.close()
