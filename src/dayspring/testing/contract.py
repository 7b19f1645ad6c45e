"""What every engine must do, as tests: subclass `EngineContract` in a pytest file and give it three fixtures.

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def model(self) -> Model: ...

`compute` is anything that runs tasks as `dayspring.compute.service.Compute` does, with the engine installed. A test
that needs an ability the model does not have is skipped and says so. What it does not check: how good the answers are.
"""

import asyncio
import math
import struct
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec
import pytest

from dayspring.contracts.events import ChoiceEnd, Embedding, Event, Rerank, TextDelta, ToolCallDelta, Usage
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, EmbeddingTask, RerankTask, Sampling, Task
from dayspring.core.errors import ContextLengthExceeded, DayspringError, InvalidRequest, PromptOverLimit

__all__ = ["EngineContract", "Runner", "answers", "collect"]

_ATTEMPTS = 8
"""A stop is timed so often and the best counts: a busy machine is late at times, an engine that cannot stop always."""


class Running(Protocol):
    def __aiter__(self) -> AsyncIterator[Event]: ...


class Runner(Protocol):
    """What the contract needs of Compute."""

    def run(self, model: Model, task: Task) -> AbstractAsyncContextManager[Running]: ...
    async def count_tokens(self, model: Model, task: Task) -> int: ...


async def collect(compute: Runner, model: Model, task: Task) -> list[Event]:
    """All events of a task."""
    async with compute.run(model, task) as run:
        return [event async for event in run]


def answers(events: list[Event]) -> dict[int, str]:
    """The text of each choice."""
    texts: dict[int, str] = {}
    for event in events:
        if isinstance(event, TextDelta):
            texts[event.index] = texts.get(event.index, "") + event.text
    return texts


def require(condition: object, what: str) -> None:
    """An assertion that works under any rewriting, with its reason."""
    if not condition:
        raise AssertionError(what)


class EngineContract:
    stop_within_s = 0.2
    counts_exactly = True
    """False for an engine that can only estimate tokens before the run."""
    keeps_seed = True
    """False for an engine that cannot promise the same text for the same seed."""
    words = "one two three four five six seven eight"
    long_words = 2_000
    """Words of the prompt that a run is stopped in, and of the answer where the engine repeats it."""

    @pytest.fixture
    def compute(self) -> Runner:
        raise NotImplementedError("give the contract a `compute` fixture")

    @pytest.fixture
    def model(self) -> Model:
        raise NotImplementedError("give the contract a `model` fixture")

    def chat(self, text: str | None = None, *, n: int = 1, limit: int | None = None, **sampling: Any) -> ChatTask:
        message = {"role": "user", "content": self.words if text is None else text}
        return ChatTask((message,), Sampling(**{"seed": 7, **sampling}), n=n, prompt_limit=limit)

    async def test_a_chat_ends_with_one_usage_whose_tokens_the_deltas_add_up_to(
        self, compute: Runner, model: Model
    ) -> None:
        need(model, Ability.CHAT)
        events = await collect(compute, model, self.chat(n=2, max_tokens=8))
        self._check_stream(events, choices=2)

    async def test_a_completion_answers_each_prompt_n_times_in_order(self, compute: Runner, model: Model) -> None:
        need(model, Ability.COMPLETION)
        task = CompletionTask((self.words, "alpha beta"), Sampling(max_tokens=4, seed=7), n=2)
        self._check_stream(await collect(compute, model, task), choices=4)

    async def test_embeddings_are_unit_vectors_in_the_order_of_the_inputs(self, compute: Runner, model: Model) -> None:
        need(model, Ability.EMBEDDING)
        inputs = (self.words, "alpha", "beta", self.words)
        events = await collect(compute, model, EmbeddingTask(inputs))
        vectors = [event for event in events if isinstance(event, Embedding)]
        require([vector.index for vector in vectors] == [0, 1, 2, 3], "one embedding for each input, in order")
        for vector in vectors:
            values = struct.unpack(f"<{len(vector.vector) // 4}f", vector.vector)
            require(math.isclose(math.hypot(*values), 1, abs_tol=1e-4), "a vector has length 1")
        require(_cosine(vectors[0].vector, vectors[3].vector) > 0.9999, "the same input has the same vector")
        require(_cosine(vectors[0].vector, vectors[1].vector) < 0.9999, "another input has another vector")
        require(isinstance(events[-1], Usage), "the last event is Usage")

    async def test_every_document_is_scored_in_order_and_for_itself(self, compute: Runner, model: Model) -> None:
        need(model, Ability.RERANK)
        documents = (self.words, "alpha", "beta", self.words)
        events = await collect(compute, model, RerankTask("alpha", documents))
        scores = [event for event in events if isinstance(event, Rerank)]
        require([score.index for score in scores] == [0, 1, 2, 3], "one score for each document, in order")
        require(all(math.isfinite(score.score) for score in scores), "a score is a number")
        require(math.isclose(scores[0].score, scores[3].score, abs_tol=1e-3), "the same document has the same score")
        require(isinstance(events[-1], Usage), "the last event is Usage")
        alone = await collect(compute, model, RerankTask("alpha", documents[1:2]))
        found = next(event.score for event in alone if isinstance(event, Rerank))
        require(math.isclose(found, scores[1].score, abs_tol=1e-3), "its neighbours change nothing about a document")

    async def test_max_tokens_is_kept_and_named_as_the_reason(self, compute: Runner, model: Model) -> None:
        need(model, Ability.CHAT)
        events = await collect(compute, model, self.chat(max_tokens=3))
        usage = self._check_stream(events, choices=1)
        require(usage.output_tokens == 3, "an answer cut at 3 tokens has 3")
        require([e.reason for e in events if isinstance(e, ChoiceEnd)] == ["length"], "it ends by length")

    async def test_no_output_is_made_for_a_maximum_of_none(self, compute: Runner, model: Model) -> None:
        need(model, Ability.CHAT)
        events = await collect(compute, model, self.chat(max_tokens=0))
        usage = self._check_stream(events, choices=1)
        require(usage.output_tokens == 0, "no token is made")

    async def test_a_stop_sequence_ends_the_answer_and_is_not_in_it(self, compute: Runner, model: Model) -> None:
        need(model, Ability.CHAT)
        if not self.keeps_seed:
            pytest.skip("needs a text that repeats")
        whole = answers(await collect(compute, model, self.chat(max_tokens=8)))[0]
        stop = whole.split()[-1]
        events = await collect(compute, model, self.chat(max_tokens=8, stop=(stop,)))
        self._check_stream(events, choices=1)
        text = answers(events).get(0, "")
        require(text == whole[: whole.index(stop)], f"{text!r} is {whole!r} up to {stop!r}")
        require([e.reason for e in events if isinstance(e, ChoiceEnd)] == ["stop"], "it ends by stop")

    async def test_the_same_seed_gives_the_same_text_also_while_others_run(self, compute: Runner, model: Model) -> None:
        need(model, Ability.CHAT)
        if not self.keeps_seed:
            pytest.skip("this engine does not promise it")
        task = self.chat(max_tokens=12, temperature=1.0)
        first = answers(await collect(compute, model, task))
        await collect(compute, model, self.chat("something else", max_tokens=5, seed=3))
        require(answers(await collect(compute, model, task)) == first, "the same after another request")
        others = [collect(compute, model, self.chat(f"other {n}", max_tokens=12, seed=n)) for n in range(2)]
        again, *_ = await asyncio.gather(collect(compute, model, task), *others)
        require(answers(again) == first, "the same while others run")

    async def test_tokens_are_counted_as_they_are_billed(self, compute: Runner, model: Model) -> None:
        if not self.counts_exactly:
            pytest.skip("this engine estimates")
        for task in self._tasks(model):
            usage = (await collect(compute, model, task))[-1]
            require(isinstance(usage, Usage), "the last event is Usage")
            counted = await compute.count_tokens(model, task)
            require(counted == getattr(usage, "input_tokens", None), f"{counted} counted, {usage} billed")

    async def test_a_prompt_over_the_limit_is_refused_with_its_exact_length(
        self, compute: Runner, model: Model
    ) -> None:
        if not self.counts_exactly:
            pytest.skip("this engine estimates")
        for task in self._tasks(model):
            tokens = await compute.count_tokens(model, task)
            with pytest.raises(PromptOverLimit) as caught:
                await collect(compute, model, msgspec.structs.replace(task, prompt_limit=tokens - 1))
            require(caught.value.input_tokens == tokens, "the error says how many tokens there are")
            events = await collect(compute, model, msgspec.structs.replace(task, prompt_limit=tokens))
            require(isinstance(events[-1], Usage), "a limit that is met lets the task run")

    async def test_leaving_a_run_stops_it_soon(self, compute: Runner, model: Model) -> None:
        need(model, Ability.CHAT)
        task = self.chat("word " * self.long_words)
        await collect(compute, model, self.chat(max_tokens=1))
        times = []
        for _ in range(_ATTEMPTS):
            async with compute.run(model, task) as run:
                await anext(aiter(run))
                started = time.monotonic()
            times.append(time.monotonic() - started)
        require(min(times) <= self.stop_within_s, f"stopped after {min(times):.3f} s at best")
        require(answers(await collect(compute, model, self.chat(max_tokens=1))), "and the next one runs")

    async def test_an_option_that_does_not_exist_is_refused(self, compute: Runner, model: Model) -> None:
        odd = msgspec.structs.replace(model, id=f"{model.id}-odd", options={**model.options, "no_such_option": 1})
        with pytest.raises(InvalidRequest, match="no_such_option"):
            await collect(compute, odd, self._tasks(model)[0])

    async def test_a_prompt_longer_than_the_context_is_refused_with_numbers(
        self, compute: Runner, model: Model
    ) -> None:
        if not model.context_tokens:
            pytest.skip("the model has no context length")
        text = "word " * (model.context_tokens + 100)
        long: dict[Ability, Task] = {
            Ability.EMBEDDING: EmbeddingTask((text,)),
            Ability.RERANK: RerankTask("alpha", (text,)),
        }
        task = long.get(model.abilities[0], self.chat(text))
        with pytest.raises(ContextLengthExceeded, match=str(model.context_tokens)):
            await collect(compute, model, task)

    async def test_what_a_model_cannot_do_is_refused_in_our_words(self, compute: Runner, model: Model) -> None:
        tasks: dict[Ability, Task] = {
            Ability.CHAT: self.chat(),
            Ability.EMBEDDING: EmbeddingTask(("a",)),
            Ability.RERANK: RerankTask("a", ("b",)),
        }
        missing = [task for ability, task in tasks.items() if ability not in model.abilities]
        if not missing:
            pytest.skip("the model can do everything")
        for task in missing:
            with pytest.raises(DayspringError) as caught:
                await collect(compute, model, task)
            require(400 <= caught.value.status < 500, "it is the request's fault")

    def _tasks(self, model: Model) -> list[Task]:
        """One small task for each of the model's abilities."""
        tasks: dict[Ability, Task] = {
            Ability.CHAT: self.chat(max_tokens=2),
            Ability.COMPLETION: CompletionTask((self.words,), Sampling(max_tokens=2, seed=7)),
            Ability.EMBEDDING: EmbeddingTask((self.words, "alpha beta")),
            Ability.RERANK: RerankTask("alpha", (self.words, "alpha beta")),
        }
        return [tasks[ability] for ability in model.abilities]

    def _check_stream(self, events: list[Event], *, choices: int) -> Usage:
        """One Usage, last; an end for each choice, nothing of it after; tokens that add up."""
        usages = [event for event in events if isinstance(event, Usage)]
        require(len(usages) == 1, f"exactly one Usage, not {len(usages)}")
        (usage,) = usages
        require(events[-1] is usage, "Usage is the last event")
        ended: set[int] = set()
        produced = 0
        for event in events:
            if isinstance(event, TextDelta | ToolCallDelta | ChoiceEnd):
                require(event.index not in ended, f"nothing of choice {event.index} comes after its end")
            if isinstance(event, ChoiceEnd):
                ended.add(event.index)
            if isinstance(event, TextDelta | ToolCallDelta):
                produced += event.tokens
        require(ended == set(range(choices)), f"an end for each of {choices} choices, not {sorted(ended)}")
        require(produced == usage.output_tokens, f"{produced} tokens in deltas, {usage.output_tokens} in usage")
        require(0 <= usage.cached_tokens <= usage.input_tokens, "cached tokens are part of the input")
        return usage


def need(model: Model, ability: Ability) -> None:
    if ability not in model.abilities:
        pytest.skip(f"the model has no ability {ability.value!r}")


def _cosine(a: bytes, b: bytes) -> float:
    x, y = struct.unpack(f"<{len(a) // 4}f", a), struct.unpack(f"<{len(b) // 4}f", b)
    return float(sum(p * q for p, q in zip(x, y, strict=True)))
