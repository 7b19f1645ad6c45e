"""The verbs of the room: chat, complete, embed; whole or as a stream.

What holds: the chunk that ends a choice, and the end of a whole answer, leave only after the request is settled, so
whoever received an answer in full finds it in the ledger.
"""

import base64
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Protocol, TypeVar

from dayspring.accounts.principals import Principal
from dayspring.chat import reading
from dayspring.chat.account import account_object
from dayspring.chat.answers import ChatAnswer, ChatChunks, usage_object
from dayspring.chat.bodies import ChatCompletionBody, CompletionBody, Drawn, EmbeddingBody
from dayspring.chat.texts import TextAnswer, text_chunk
from dayspring.chat.tools import answering_readers
from dayspring.contracts.clock import Clock
from dayspring.contracts.events import ChoiceEnd, Embedding, TextDelta, ToolCallDelta
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.registry import engine
from dayspring.contracts.tasks import Task
from dayspring.dispatch.service import Call, Dispatch
from dayspring.dispatch.values import Order, Receipt, Ticket

__all__ = ["ChatService"]

Answer = tuple[dict[str, Any], Receipt]

B = TypeVar("B", bound=Drawn | EmbeddingBody)
T = TypeVar("T", bound=Drawn | EmbeddingBody, contravariant=True)


class Reading(Protocol[T]):
    """How a body becomes a task, for a model whose engine speaks OpenAI's shapes or not."""

    def __call__(self, body: T, *, speaks_openai: bool) -> Task: ...


Keep = Callable[[Principal, ChatCompletionBody, dict[str, Any]], Awaitable[None]]
Admit = Callable[[Principal], Awaitable[None]]


class ChatService:
    """`keep` stores an answer whose caller asked for it; `admit` raises where the project may not keep more."""

    def __init__(self, dispatch: Dispatch, clock: Clock, keep: Keep, admit: Admit) -> None:
        self._dispatch = dispatch
        self._clock = clock
        self._keep = keep
        self._admit = admit

    async def chat(self, principal: Principal, body: ChatCompletionBody, ticket: Ticket) -> Answer:
        """One whole chat completion."""
        model, native = await self._model(principal, body.model, Ability.CHAT)
        if body.store:
            reading.check_numbers("messages", body.messages)
            await self._admit(principal)
        task = reading.chat_task(body, speaks_openai=native)
        answers = [ChatAnswer() for _ in range(task.n)]
        async with self._open(principal, model, task, ticket, body, reading.chat_task) as call:
            readers = answering_readers(body, task.n, lambda: call.model)
            async for event in call:
                for each in readers(event):
                    if isinstance(each, TextDelta | ToolCallDelta | ChoiceEnd):
                        answers[each.index].add(each)
            receipt = await call.settle()
        usage = usage_object(receipt.usage, reasoning_tokens=call.reasoning_tokens)
        answer = self._head(f"chatcmpl-{ticket.request_id[4:]}", "chat.completion", call.model, receipt)
        answer["choices"] = [each.choice(index) for index, each in enumerate(answers)]
        answer["usage"] = usage
        if body.store:
            await self._keep(principal, body, answer)
        return answer, receipt

    async def chat_stream(
        self, principal: Principal, body: ChatCompletionBody, ticket: Ticket
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of one chat completion."""
        model, native = await self._model(principal, body.model, Ability.CHAT)
        if body.store:
            reading.check_numbers("messages", body.messages)
            await self._admit(principal)
        task = reading.chat_task(body, speaks_openai=native)
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        identifier = f"chatcmpl-{ticket.request_id[4:]}"
        chunks = ChatChunks(identifier, model.id, self._clock.time_ns() // 10**9, include_usage=wants_usage)
        ends: list[dict[str, Any]] = []
        opened: set[int] = set()
        whole = [ChatAnswer() for _ in range(task.n)] if body.store else []
        async with self._open(principal, model, task, ticket, body, reading.chat_task) as call:
            readers = answering_readers(body, task.n, lambda: call.model)
            async for event in call:
                chunks.head["model"] = call.model.id
                for each in readers(event):
                    if isinstance(each, TextDelta | ToolCallDelta | ChoiceEnd) and each.index not in opened:
                        opened.add(each.index)
                        yield chunks.opening(each.index)
                    if whole and isinstance(each, TextDelta | ToolCallDelta | ChoiceEnd):
                        whole[each.index].add(each)
                    if isinstance(each, ChoiceEnd):
                        ends.append(chunks.end(each))
                    elif isinstance(each, TextDelta | ToolCallDelta):
                        yield chunks.delta(each)
            receipt = await call.settle()
        usage = usage_object(receipt.usage, reasoning_tokens=call.reasoning_tokens)
        if whole:
            kept = {**chunks.head, "object": "chat.completion", "usage": usage}
            kept["choices"] = [each.choice(index) for index, each in enumerate(whole)]
            await self._keep(principal, body, kept)
        for end in ends:
            yield end
        if wants_usage:
            yield _with_account(chunks.usage(usage), principal, receipt)

    async def complete(self, principal: Principal, body: CompletionBody, ticket: Ticket) -> Answer:
        """One whole text completion."""
        model, native = await self._model(principal, body.model, Ability.COMPLETION)
        task = reading.completion_task(body, speaks_openai=native)
        answers = [TextAnswer() for _ in range(task.n * len(task.prompts))]
        async with self._open(principal, model, task, ticket, body, reading.completion_task) as call:
            async for event in call:
                if isinstance(event, TextDelta | ChoiceEnd):
                    answers[event.index].add(event)
            receipt = await call.settle()
        answer = self._head(f"cmpl-{ticket.request_id[4:]}", "text_completion", call.model, receipt)
        answer["choices"] = [each.choice(index) for index, each in enumerate(answers)]
        answer["usage"] = usage_object(receipt.usage)
        return answer, receipt

    async def complete_stream(
        self, principal: Principal, body: CompletionBody, ticket: Ticket
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of one text completion."""
        model, native = await self._model(principal, body.model, Ability.COMPLETION)
        task = reading.completion_task(body, speaks_openai=native)
        head = self._head(f"cmpl-{ticket.request_id[4:]}", "text_completion", model, None)
        wants_usage = body.stream_options is not None and body.stream_options.include_usage
        each = {**head, "usage": None} if wants_usage else head
        ends: list[dict[str, Any]] = []
        offsets = [0] * (task.n * len(task.prompts))
        async with self._open(principal, model, task, ticket, body, reading.completion_task) as call:
            async for event in call:
                head["model"] = each["model"] = call.model.id
                if isinstance(event, ChoiceEnd):
                    ends.append(text_chunk(each, event))
                elif isinstance(event, TextDelta):
                    yield text_chunk(each, event, offsets[event.index])
                    offsets[event.index] += len(event.text)
            receipt = await call.settle()
        for end in ends:
            yield end
        if wants_usage:
            yield _with_account({**head, "choices": [], "usage": usage_object(receipt.usage)}, principal, receipt)

    async def embed(self, principal: Principal, body: EmbeddingBody, ticket: Ticket) -> Answer:
        """One vector for each input."""
        model, native = await self._model(principal, body.model, Ability.EMBEDDING)
        task = reading.embedding_task(body, speaks_openai=native)
        vectors: list[Any] = [None] * len(task.inputs)
        spell = _as_base64 if body.encoding_format == "base64" else _as_floats
        async with self._open(principal, model, task, ticket, body, reading.embedding_task) as call:
            async for event in call:
                if isinstance(event, Embedding):
                    vectors[event.index] = spell(event.vector)
            receipt = await call.settle()
        usage = {"prompt_tokens": receipt.usage.input_tokens, "total_tokens": receipt.usage.input_tokens}
        data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
        return {"object": "list", "data": data, "model": model.id, "usage": usage}, receipt

    async def _model(self, principal: Principal, model_id: str, ability: Ability) -> tuple[Model, bool]:
        model = await self._dispatch.model(principal, model_id, ability)
        return model, engine(model.engine).speaks_openai

    def _open(
        self,
        principal: Principal,
        model: Model,
        task: Task,
        ticket: Ticket,
        body: B,
        read: Reading[B],
    ) -> Call:
        def task_for(other: Model) -> Task:
            return read(body, speaks_openai=engine(other.engine).speaks_openai)

        return self._dispatch.open(Order(ticket, principal, model, task, _notes(body), body.model, task_for))

    def _head(self, identifier: str, kind: str, model: Model, receipt: Receipt | None) -> dict[str, Any]:
        created = self._clock.time_ns() // 10**9
        fingerprint = receipt.usage.fingerprint if receipt is not None else ""
        return {
            "id": identifier,
            "object": kind,
            "created": created,
            "model": model.id,
            "system_fingerprint": fingerprint or None,
        }


def _notes(body: Drawn | EmbeddingBody) -> dict[str, str]:
    """What the caller wants kept with the request's account."""
    named = {field: getattr(body, field, None) for field in ("user", "safety_identifier")}
    notes = {field: value for field, value in named.items() if value is not None}
    # A note of the caller's own does not hide whom the request was made for.
    return (body.metadata or {}) | notes if isinstance(body, Drawn) else notes


def _with_account(chunk: dict[str, Any], principal: Principal, receipt: Receipt) -> dict[str, Any]:
    """The usage chunk, with what a header would say of a whole answer."""
    account = account_object(receipt, principal)
    return chunk | {"dayspring": account} if account else chunk


def _as_floats(vector: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def _as_base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode()
