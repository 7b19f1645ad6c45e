"""A model on a running `vllm serve`: tasks in OpenAI's protocol over its socket, and its answers as events.

The protocol is spoken by the upstream engine's parts. What differs is here: vLLM is ours, so it has no bill, its tokens
are counted exactly before a run where that matters and with every piece of a stream, prefixes it remembers are salted
with the task's scope, and its end is the worker's.
"""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from dayspring.contracts.clock import SystemClock
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.events import ChoiceEnd, Event, Started, TextDelta, Usage
from dayspring.contracts.models import Modality, Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, EmbeddingTask, Task, without_pictures
from dayspring.core.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    PromptOverLimit,
    UnsupportedParameter,
    UpstreamFailed,
    WorkerDied,
)
from dayspring.engines.upstream.bodies import input_bound
from dayspring.engines.upstream.session import UpstreamSession
from dayspring.engines.vllm.command import adapter_name
from dayspring.engines.vllm.options import Options
from dayspring.engines.vllm.process import VllmProcess
from dayspring.engines.vllm.questions import Questions

__all__ = ["VllmSession"]

_HOST = "vllm.local"
"""Stands in addresses; the connection goes to the socket."""
_LONGEST_S = 86_400.0
_DEATH_SEEN_S = 1.0


class _Client(UpstreamSession):
    """The upstream's session, to a socket of this machine."""

    running_usage = True

    def __init__(self, model: Model, options: LoadOptions, name: str, socket: Path, key: str) -> None:
        target = {
            "url": f"http://{_HOST}/v1",
            "model": name,
            **dict.fromkeys(("first_byte_timeout_s", "idle_timeout_s", "total_timeout_s"), _LONGEST_S),
        }
        asked = msgspec.structs.replace(model, options={"targets": [target], "breaker_failures": 1000})
        self._socket = socket
        secrets = {_HOST: key}
        super().__init__(
            asked, LoadOptions(request_timeout_s=options.request_timeout_s, secrets=secrets), SystemClock()
        )

    def connector(self) -> aiohttp.BaseConnector:
        return aiohttp.UnixConnector(str(self._socket), limit=0)


class VllmSession:
    def __init__(
        self, model: Model, options: LoadOptions, chosen: Options, process: VllmProcess, questions: Questions,
        socket: Path, key: str, context_tokens: int,
    ) -> None:  # fmt: skip
        self._model = model
        self._chosen = chosen
        self._process = process
        self._questions = questions
        self._key = key.encode()
        self._context_tokens = context_tokens
        self._parallel = chosen.max_num_seqs or options.slots
        self.watcher: asyncio.Task[None] | None = None
        """Ends the worker when vLLM ends by itself; held here so that it lives."""
        names = ("", *(adapter.id for adapter in model.adapters))
        self._clients = {name: _Client(model, options, adapter_name(name), socket, key) for name in names}

    @property
    def parallel(self) -> int:
        return self._parallel

    async def run(self, task: Task) -> AsyncIterator[Event]:
        self._check(task)
        await self._check_length(task)
        if isinstance(task, ChatTask | CompletionTask) and task.sampling.max_tokens == 0:
            for event in await self._nothing(task):
                yield event
            return
        if isinstance(task, CompletionTask) and task.echo:
            raise UnsupportedParameter("echo", "this model tells its answer only. Leave it out")
        try:
            async with aclosing(self._clients[task.adapter].run(self._asked(task))) as events:
                async for event in events:
                    yield self._ours(event)
        except UpstreamFailed:
            with suppress(TimeoutError):  # a broken connection is noticed before the end that broke it
                async with asyncio.timeout(_DEATH_SEEN_S):
                    await self._process.gone.wait()
                    raise WorkerDied(model=self._model.id) from None
            raise

    async def count_tokens(self, task: Task) -> int:
        """Exact for text; a picture counts for the most it can come to."""
        self._check(task)
        return sum(await self._counts(task))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
        await self._questions.close()
        await self._process.close()
        if self.watcher is not None:
            await self.watcher

    def _check(self, task: Task) -> None:
        """Raises InvalidRequest or UnsupportedParameter for what this model cannot do."""
        kind = type(task).__struct_config__.tag
        if kind not in self._model.abilities:
            can = ", ".join(self._model.abilities)
            raise InvalidRequest(f"{self._model.id!r} cannot do {kind}, only {can}. Choose another.", param="model")
        if not isinstance(task, ChatTask):
            return
        if task.tools and task.schema is None and not self._chosen.tool_call_parser:
            raise UnsupportedParameter(
                "tools", "how this model writes calls is not set. Force one with tool_choice, or have the operator set "
                "the model's option 'tool_call_parser'",
            )  # fmt: skip
        if without_pictures(task.messages)[1] and not self._model.may_read(Modality.IMAGE):
            raise UnsupportedParameter("messages", "this model reads no pictures. Send text")

    async def _check_length(self, task: Task) -> None:
        """Counts only where the number of bytes leaves a doubt."""
        bound, limit, context = (
            input_bound(task, 0, self._model.picture_tokens),
            task.prompt_limit,
            self._context_tokens,
        )
        if (not context or bound < context) and (limit is None or bound <= limit):
            return
        counts = await self._counts(task)
        if context and max(counts, default=0) >= context + isinstance(task, EmbeddingTask):
            param = "input" if isinstance(task, EmbeddingTask) else "messages"
            raise ContextLengthExceeded(
                model=self._model.id, prompt_tokens=max(counts), context_tokens=context, param=param
            )
        if limit is not None and sum(counts) > limit:
            raise PromptOverLimit(sum(counts))

    async def _counts(self, task: Task) -> list[int]:
        if isinstance(task, ChatTask):
            messages, pictures = without_pictures(task.messages)
            body: dict[str, Any] = {"messages": messages, "add_generation_prompt": True}
            if task.tools:
                body["tools"] = task.tools
            return [await self._questions.count(body) + pictures * self._model.picture_tokens]
        given = task.prompts if isinstance(task, CompletionTask) else task.inputs
        return [len(one) if isinstance(one, tuple) else await self._questions.count({"prompt": one}) for one in given]

    async def _nothing(self, task: ChatTask | CompletionTask) -> list[Event]:
        """An answer of no tokens, which vLLM does not give."""
        prompts = task.prompts if isinstance(task, CompletionTask) else ("",)
        events: list[Event] = []
        for index in range(len(prompts) * task.n):
            if isinstance(task, CompletionTask) and task.echo:
                prompt = prompts[index // task.n]
                text = prompt if isinstance(prompt, str) else await self._questions.text(prompt)
                events.append(TextDelta(text, index, tokens=0))
            events.append(ChoiceEnd("length", index))
        return [*events, Usage(sum(await self._counts(task)))]

    def _asked(self, task: Task) -> Task:
        """The task as vLLM is asked: always as a stream, so that what was made is known whenever it is cut."""
        if not isinstance(task, ChatTask | CompletionTask):
            return msgspec.structs.replace(task, prompt_limit=None)
        salt = hmac.new(self._key, task.cache_scope.encode(), hashlib.sha256).hexdigest()
        extra: dict[str, Any] = {"cache_salt": salt}
        sampling = task.sampling
        if sampling.repeat_penalty is not None:
            extra["repetition_penalty"] = sampling.repeat_penalty
            sampling = msgspec.structs.replace(sampling, repeat_penalty=None)
        if isinstance(task, ChatTask):
            if task.reasoning_effort is not None:
                extra["chat_template_kwargs"] = {"enable_thinking": task.reasoning_effort != "none"}
            if task.tools and task.schema is not None:
                extra["tool_choice"] = "none"
        return msgspec.structs.replace(task, extra=extra, sampling=sampling, stream=True, prompt_limit=None)

    def _ours(self, event: Event) -> Event:
        """Without the service's name and bill: it is this machine that computes."""
        if isinstance(event, Started | Usage):
            return msgspec.structs.replace(event, upstream="")
        return event
