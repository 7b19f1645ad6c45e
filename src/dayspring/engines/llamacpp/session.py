"""Chat and completion on the library's server: one thread for each answer being made, none while it waits.

What holds: what runs at once never needs more key-value memory than there is; Started comes before anything is
computed, with the exact number of input tokens; a cancelled answer is heard of after at most one batch, and its slot is
free when `run` has ended.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from dayspring.contracts.events import ChoiceEnd, Event, Started, TextDelta, Usage
from dayspring.contracts.models import Modality, Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, EmbeddingTask, RerankTask, Task, without_pictures
from dayspring.core.errors import ContextLengthExceeded, InvalidRequest, PromptOverLimit, UnsupportedParameter
from dayspring.engines.llamacpp.admission import Admission
from dayspring.engines.llamacpp.bodies import Choice, chat_body, choices, placed
from dayspring.engines.llamacpp.chunks import Reader, failure
from dayspring.engines.llamacpp.layout import Layout
from dayspring.engines.llamacpp.local_http import LocalServer, tokenize_body
from dayspring.engines.llamacpp.pictures import plain_messages
from dayspring.engines.llamacpp.slots import Place, Slots, Wish

__all__ = ["TextSession"]


class _Sink:
    """Events from the library's threads, in order, handed to the loop with one wake-up for what is there."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._woken = False
        self._closed = False

    def put(self, event: Event) -> None:
        """From any thread."""
        self._events.append(event)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def wait(self) -> deque[Event]:
        """The events, at least one unless `close` was called; taking them out is the caller's."""
        if not self._events and not self._closed:
            await self._arrived.wait()
        # Cleared before the caller takes what is there: what comes from now on wakes it again.
        self._arrived.clear()
        self._woken = False
        return self._events

    def close(self) -> None:
        """On the loop: nothing more comes."""
        self._closed = True
        self._arrived.set()


class _Answer:
    """One choice being made."""

    def __init__(self, choice: Choice, reader: Reader, handle: Callable[..., None], cells: int, wish: Wish) -> None:
        self.choice = choice
        self.reader = reader
        self.handle = handle
        self.cells = cells
        self.wish = wish
        self.inside = False
        """It has its place and a thread."""
        self.work: asyncio.Task[None] | None = None

    def compute(self, place: Place) -> None:
        """On a thread of its own, until the answer's end."""
        self.handle(placed(self.choice.body, place.slot, reuse=place.reuse), self.reader.feed)

    def stop(self) -> None:
        self.reader.cancelled = True
        if not self.inside and self.work is not None:
            self.work.cancel()


class TextSession:
    queues_itself = True
    """The host counts a call's time from Started, not from when it arrived."""

    def __init__(
        self, server: Any, local: LocalServer, folder: "TemporaryDirectory[str]", model: Model, plan: Layout, mark: str
    ) -> None:
        self._server = server
        self._local = local
        self._folder = folder
        self._model = model
        self._plan = plan
        self._mark = mark
        self._slots = Slots(plan.slots)
        self._admission = Admission(self._slots, plan.pool_tokens)
        self._adapters = tuple(adapter.id for adapter in model.adapters)
        self._threads = ThreadPoolExecutor(plan.slots, "llamacpp")
        self._counting = ThreadPoolExecutor(2, "llamacpp-count")

    @property
    def parallel(self) -> int:
        return self._plan.slots

    async def run(self, task: Task) -> AsyncIterator[Event]:
        if isinstance(task, EmbeddingTask | RerankTask):
            raise InvalidRequest(f"{self._model.id!r} makes text only. Choose a model for that.", param="model")
        task = await self._plain(task)
        counts = await self._counts_if_needed(task)
        made = list(choices(task, [self._plan.context_tokens - count for count in counts], self._adapters))
        if isinstance(task, CompletionTask) and task.echo:
            texts = [await self._text_of(prompt) for prompt in task.prompts]
            for choice in made:
                yield TextDelta(texts[choice.prompt], choice.index, tokens=0)
        if task.sampling.max_tokens == 0:
            for choice in made:
                yield ChoiceEnd("length", choice.index)
            yield Usage(sum(counts), fingerprint=self._mark)
            return
        answers: list[_Answer] = []
        async with aclosing(self._answering(task, made, counts, answers)) as events:
            async for event in events:
                yield event
        firsts = {answer.choice.prompt: answer.reader for answer in reversed(answers)}
        yield Usage(
            sum(reader.input_tokens for reader in firsts.values()),
            sum(answer.reader.output_tokens for answer in answers),
            sum(reader.cached_tokens for reader in firsts.values()),
            fingerprint=self._mark,
        )

    async def _answering(
        self, task: ChatTask | CompletionTask, made: list[Choice], counts: list[int], answers: list[_Answer]
    ) -> AsyncGenerator[Event, None]:
        """The events of all choices as they come; `answers` is filled. When it has ended, nothing runs any more."""
        sink = _Sink()
        answers += [self._answer(task, choice, counts, sink) for choice in made]
        for answer in answers:
            answer.work = asyncio.create_task(self._make(answer))
        work = asyncio.gather(*(answer.work for answer in answers if answer.work is not None), return_exceptions=True)
        work.add_done_callback(lambda _: sink.close())
        started = False
        try:
            while True:
                ended = work.done()  # looked at first: what was put before the end is in the sink by now
                events = await sink.wait()
                while events:
                    event = events.popleft()
                    if type(event) is Started:
                        if started:
                            continue
                        started = True
                    yield event
                if ended:
                    break
        finally:
            for answer in answers:
                answer.stop()
            results = await work
        for result in results:
            if result is not None:
                raise result

    async def _make(self, answer: _Answer) -> None:
        ticket = await self._admission.enter(answer.cells, answer.wish)
        answer.inside = True
        try:
            if answer.wish.fresh:
                await self._empty_idle_slots()
            await asyncio.get_running_loop().run_in_executor(self._threads, answer.compute, ticket.place)
        finally:
            self._admission.leave(ticket)
        answer.reader.check_ended()

    def _answer(self, task: ChatTask | CompletionTask, choice: Choice, counts: list[int], sink: _Sink) -> _Answer:
        several = isinstance(task, CompletionTask) and len(task.prompts) > 1
        total = sum(counts)

        def started(tokens: int, cached: int) -> None:
            sink.put(Started(total or (0 if several else tokens), cached))

        reader = Reader(
            sink.put,
            index=choice.index,
            model=self._model.id,
            prompt_limit=None if several else task.prompt_limit,
            top_logprobs=task.sampling.top_logprobs,
            started=started,
        )
        chat = isinstance(task, ChatTask)
        handle = self._server.handle_chat_completions if chat else self._server.handle_completions
        cells = 0 if self._plan.split else counts[choice.prompt] + choice.max_tokens
        # What else lies in a shared pool changes the rounding, so who names a seed finds it empty.
        fresh = not self._plan.split and task.sampling.seed is not None
        wish = Wish(task.cache_scope, task.adapter, choice.key, fresh)
        return _Answer(choice, reader, handle, cells, wish)

    async def _empty_idle_slots(self) -> None:
        for number in self._slots.forget_idle():
            await self._ask(f"/slots/{number}?action=erase", {})

    async def _plain(self, task: ChatTask | CompletionTask) -> ChatTask | CompletionTask:
        """The task with its pictures decoded. Raises InvalidRequest, UnsupportedParameter for a model without eyes."""
        if not isinstance(task, ChatTask) or not without_pictures(task.messages)[1]:
            return task
        if not self._model.may_read(Modality.IMAGE):
            raise UnsupportedParameter("messages", "this model reads no pictures. Send text")
        plain = await asyncio.get_running_loop().run_in_executor(self._counting, plain_messages, task.messages)
        return msgspec.structs.replace(task, messages=tuple(plain))

    async def count_tokens(self, task: Task) -> int:
        """Raises InvalidRequest for what the model's template cannot render."""
        plain = task if isinstance(task, EmbeddingTask | RerankTask) else await self._plain(task)
        return sum(await self._counts(plain))

    async def _counts_if_needed(self, task: ChatTask | CompletionTask) -> list[int]:
        """Tokens of each prompt, where they must be known before the start: to share a pool without ever running
        out, to hold several prompts to one limit, or because nothing is computed. Else [], and Started tells."""
        several = isinstance(task, CompletionTask) and len(task.prompts) > 1
        if self._plan.split and task.sampling.max_tokens != 0 and not (several and task.prompt_limit is not None):
            return []
        counts = await self._counts(task)
        longest = max(counts, default=0)
        if longest >= self._plan.context_tokens:
            raise ContextLengthExceeded(
                model=self._model.id, prompt_tokens=longest, context_tokens=self._plan.context_tokens
            )
        if task.prompt_limit is not None and sum(counts) > task.prompt_limit:
            raise PromptOverLimit(sum(counts))
        return counts

    async def _counts(self, task: Task) -> list[int]:
        if isinstance(task, ChatTask):
            answer = await self._ask("/v1/chat/completions/input_tokens", chat_body(task))
            return [int(answer["input_tokens"])]
        given = task.prompts if isinstance(task, CompletionTask) else task.inputs
        return [len(item) if isinstance(item, tuple) else len(await self._tokens(item)) for item in given]

    async def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = (await self._ask("/tokenize", tokenize_body(text)))["tokens"]
        return tokens

    async def _text_of(self, prompt: str | tuple[int, ...]) -> str:
        if isinstance(prompt, str):
            return prompt
        return str((await self._ask("/detokenize", {"tokens": prompt}))["content"])

    async def _ask(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await asyncio.get_running_loop().run_in_executor(self._counting, self._local.post, route, body)
        if "error" in answer:
            raise failure(self._model.id, answer["error"])
        return answer

    async def close(self) -> None:
        self._threads.shutdown()
        self._counting.shutdown()
        held, self._server = [self._server], None
        await asyncio.to_thread(_drop, held)
        self._folder.cleanup()


def _drop(held: list[Any]) -> None:
    """Lets the last reference go on this thread: the library's destructor waits for its own threads."""
    held.clear()
