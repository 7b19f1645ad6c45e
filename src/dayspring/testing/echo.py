"""The echo engine: says the last message again, word by word. Deterministic, and made to break on purpose.

One word (with the blanks after it) is one token. It answers every kind of task and honours
`max_tokens`, `stop`, `n` and `prompt_limit`. Model options: `delay_s` before each token; `die_after`: the process ends
at that token; `fail_after`: the call fails at that token; `parallel`: calls at a time; `load_s`: time loading takes;
`refuse_load`: a reason loading fails for, as an engine would say it; `crash_load`: the process ends while loading.
"""

import asyncio
import hashlib
import os
import re
import struct
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

from dayspring.contracts.engine import engine_defaults
from dayspring.contracts.events import ChoiceEnd, Embedding, Event, Rerank, TextDelta, TokenLogprob, Usage
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, EmbeddingTask, RerankTask, Task
from dayspring.core.errors import ContextLengthExceeded, PromptOverLimit, Refused

__all__ = ["Echo", "EchoSession", "engine", "open_session", "words"]

DIMENSIONS = 8


class Echo(engine_defaults):
    name = "echo"
    abilities = frozenset(Ability)
    options = frozenset({"crash_load", "delay_s", "die_after", "fail_after", "load_s", "parallel", "refuse_load"})
    session = "dayspring.testing.echo:open_session"


engine = Echo()


def words(text: str) -> list[str]:
    """The tokens of a text: its words, each with the blanks that follow it."""
    starts = [0, *(match.end() for match in re.finditer(r"\S\s+", text)), len(text)]
    return [text[a:b] for a, b in pairwise(starts) if a < b]


class EchoSession:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._options: dict[str, Any] = model.options
        self.parallel: int = self._options.get("parallel", 4)

    async def count_tokens(self, task: Task) -> int:
        return sum(len(words(text)) for text in _inputs(task))

    async def run(self, task: Task) -> AsyncIterator[Event]:
        tokens = await self.count_tokens(task)
        if task.prompt_limit is not None and tokens > task.prompt_limit:
            raise PromptOverLimit(tokens)
        if self._model.context_tokens and tokens > self._model.context_tokens:
            raise ContextLengthExceeded(
                model=self._model.id, prompt_tokens=tokens, context_tokens=self._model.context_tokens
            )
        if isinstance(task, EmbeddingTask):
            for index, text in enumerate(_inputs(task)):
                yield Embedding(index, _vector(text))
            yield Usage(tokens)
            return
        if isinstance(task, RerankTask):
            for index, document in enumerate(task.documents):
                yield Rerank(index, _likeness(task.query, document))
            yield Usage(tokens)
            return
        answers = [_last_said(task)] if isinstance(task, ChatTask) else _inputs(task)
        produced = 0
        for choice, answer in enumerate(text for text in answers for _ in range(task.n)):
            async for event in self._answer(task, choice, answer):
                produced += event.tokens if isinstance(event, TextDelta) else 0
                yield event
        yield Usage(tokens, produced, fingerprint="echo")

    async def _answer(self, task: ChatTask | CompletionTask, choice: int, answer: str) -> AsyncIterator[Event]:
        sampling = task.sampling
        if isinstance(task, CompletionTask) and task.echo:
            yield TextDelta(answer, choice, tokens=0)
        ends = [at for stop in sampling.stop if (at := answer.find(stop)) >= 0]
        tokens = words(answer[: min(ends)] if ends else answer)
        most = len(tokens) if sampling.max_tokens is None else sampling.max_tokens
        for number, word in enumerate(tokens[:most]):
            await asyncio.sleep(self._options.get("delay_s", 0))
            if number == self._options.get("die_after"):
                os._exit(1)
            if number == self._options.get("fail_after"):
                raise RuntimeError("told to fail")
            logprobs = None if sampling.top_logprobs is None else (TokenLogprob(word, 0.0),)
            yield TextDelta(word, choice, logprobs=logprobs)
        if len(tokens) > most:
            yield ChoiceEnd("length", choice)
        else:
            met = [stop for stop in sampling.stop if ends and answer.startswith(stop, min(ends))]
            yield ChoiceEnd("stop", choice, met[0] if met else "")

    async def close(self) -> None:
        """Holds nothing."""


async def open_session(model: Model, *_: object) -> EchoSession:
    """A session; the device and the options make no difference."""
    await asyncio.sleep(model.options.get("load_s", 0))
    if model.options.get("crash_load"):
        os._exit(3)
    if reason := model.options.get("refuse_load"):
        raise Refused(file="echo", rule=reason, remedy="Give it another option.")
    return EchoSession(model)


def _inputs(task: Task) -> list[str]:
    match task:
        case ChatTask():
            return [_text(message.get("content")) for message in task.messages]
        case CompletionTask():
            given = task.prompts
        case EmbeddingTask() | RerankTask():
            given = task.inputs
    return [item if isinstance(item, str) else " ".join(map(str, item)) for item in given]


def _last_said(task: ChatTask) -> str:
    said = [_text(message.get("content")) for message in task.messages if message.get("role") == "user"]
    return said[-1] if said else ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


def _likeness(query: str, document: str) -> float:
    """The part of all words of both that are in both."""
    asked, said = {*query.lower().split()}, {*document.lower().split()}
    return len(asked & said) / max(len(asked | said), 1)


def _vector(text: str) -> bytes:
    digest = hashlib.sha256(text.encode()).digest()
    values = [byte - 127.5 for byte in digest[:DIMENSIONS]]
    length = sum(value * value for value in values) ** 0.5
    return struct.pack(f"<{DIMENSIONS}f", *(value / length for value in values))
