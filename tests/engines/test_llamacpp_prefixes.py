"""Prompt prefixes that a slot still holds: found again, told as they are, and by nobody else."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from llamacpp_models import described, running

from dayspring.compute.service import Compute
from dayspring.contracts.events import Event, Started, TextDelta, Usage
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, Sampling
from dayspring.testing.contract import answers, collect
from tiny_models import TinyText, write_text

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOTS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Compute]:
    async with running(tmp_path_factory.mktemp("home"), slots=SLOTS, kv_contexts=1, threads=1) as compute:
        yield compute


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("tiny") / "tiny.gguf", TinyText())


@pytest.fixture(params=["split", "shared"])
def model(request: pytest.FixtureRequest, file: Path) -> Model:
    return described(file, f"tiny-{request.param}", (Ability.CHAT, Ability.COMPLETION), kv=request.param)


def say(*texts: str, scope: str, **sampling: object) -> ChatTask:
    roles = ("user", "assistant")
    messages = tuple({"role": roles[place % 2], "content": text} for place, text in enumerate(texts))
    drawn = Sampling(**{"max_tokens": 2, "temperature": 0.0, **sampling})  # type: ignore[arg-type]
    return ChatTask(messages, drawn, cache_scope=scope)


def used(events: list[Event]) -> Usage:
    assert isinstance(events[-1], Usage)
    return events[-1]


async def test_a_conversation_goes_on_from_what_was_read_whatever_came_between(workers: Compute, model: Model) -> None:
    opening = "A long opening of a talk about the sea. " * 4
    first = used(await collect(workers, model, say(opening, scope=f"{model.id} a")))
    await collect(workers, model, say("Something else entirely.", scope=f"{model.id} a"))
    events = await collect(workers, model, say(opening, "Yes.", "And then?", scope=f"{model.id} a"))
    second = used(events)
    assert first.cached_tokens == 0
    assert len(opening) < second.cached_tokens < second.input_tokens
    assert events[0] == Started(second.input_tokens, second.cached_tokens)


async def test_another_project_finds_nothing_of_it_in_any_slot(workers: Compute, model: Model) -> None:
    secret = f"The secret of {model.id} is known to few. " * 4
    for _ in range(SLOTS + 1):
        await collect(workers, model, say(secret, scope="owner"))
    for number in range(SLOTS + 1):
        guess = used(await collect(workers, model, say(secret, scope=f"stranger {number}")))
        assert guess.cached_tokens == 0
    # And with every slot held by strangers, the owner's is gone too: nothing is kept beside the slots.
    assert used(await collect(workers, model, say(secret, scope="owner"))).cached_tokens == 0


async def test_the_same_prompt_tells_the_same_text_with_and_without_its_prefix(workers: Compute, model: Model) -> None:
    told = [
        answers(await collect(workers, model, say("Tell me of it.", scope=f"s{number}", seed=4, max_tokens=12)))
        for number in (1, 1, 2, 1)
    ]
    assert all(one == told[0] for one in told)


async def test_who_names_a_seed_in_a_shared_pool_is_told_the_same_after_others_filled_it(
    workers: Compute, file: Path
) -> None:
    model = described(file, "tiny-shared", (Ability.COMPLETION,), kv="shared")

    async def drawn() -> list[float]:
        task = CompletionTask(("words " * 40,), Sampling(seed=3, max_tokens=6, top_logprobs=0))
        events = await collect(workers, model, task)
        found = [each for event in events if isinstance(event, TextDelta) for each in event.logprobs or ()]
        return [each.logprob for each in found]

    first = await drawn()
    for number in range(SLOTS):
        filler = CompletionTask((f"{number} filler " * 12,), Sampling(max_tokens=3), cache_scope="other")
        await collect(workers, model, filler)
    assert await drawn() == first
