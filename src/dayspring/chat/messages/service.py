"""The verbs of /v1/messages: create (whole or as a stream), count.

What holds: the end of a message leaves only after it is settled, so whoever received it in full finds it in the ledger.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from dayspring.accounts.principals import Principal
from dayspring.chat import reading as chat_reading
from dayspring.chat.account import account_object
from dayspring.chat.bodies import ChatCompletionBody
from dayspring.chat.counting import asked_tokens
from dayspring.chat.messages.bodies import MessageBody, MessageCountBody
from dayspring.chat.messages.building import MessageBuilder
from dayspring.chat.messages.reading import chat_body, in_words_of_messages
from dayspring.chat.tools import answering_readers
from dayspring.contracts.events import Event
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.registry import engine
from dayspring.contracts.tasks import ChatTask
from dayspring.dispatch.service import Call, Dispatch
from dayspring.dispatch.values import Order, Receipt, Ticket

__all__ = ["MessagesService"]

Events = AsyncGenerator[dict[str, Any], None]


class Asked(msgspec.Struct, frozen=True):
    """A body, understood."""

    chat: ChatCompletionBody
    model: Model
    task: ChatTask

    def reader(self, call: Call) -> Callable[[Event], Any]:
        return answering_readers(self.chat, 1, lambda: call.model)


class MessagesService:
    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def create(self, principal: Principal, body: MessageBody, ticket: Ticket) -> tuple[dict[str, Any], Receipt]:
        """One whole message."""
        asked = await self._asked(principal, body)
        builder = _builder(body, asked.model, ticket)
        with in_words_of_messages():
            async with self._open(principal, asked, ticket) as call:
                read = asked.reader(call)
                async for made in call:
                    for each in read(made):
                        builder.add(each)
                receipt = await call.settle()
                builder.answered_by(call.model.id)
        builder.complete(receipt.usage)
        return builder.message, receipt

    async def stream(self, principal: Principal, body: MessageBody, ticket: Ticket) -> Events:
        """The events of one message."""
        asked = await self._asked(principal, body)
        builder = _builder(body, asked.model, ticket)
        begun = False
        with in_words_of_messages():
            async with self._open(principal, asked, ticket) as call:
                read = asked.reader(call)
                async for made in call:
                    if not begun:
                        begun = True
                        builder.answered_by(call.model.id)
                        for event in builder.begin(call.used):
                            yield event
                    for each in read(made):
                        for event in builder.add(each):
                            yield event
                receipt = await call.settle()
        last = [*([] if begun else builder.begin(receipt.usage)), *builder.complete(receipt.usage)]
        if account := account_object(receipt, principal):
            last[-2] = last[-2] | {"dayspring": account}
        for event in last:
            yield event

    async def count(self, principal: Principal, body: MessageCountBody) -> dict[str, Any]:
        """Input tokens that a message to this body would be charged for."""
        asked = await self._asked(principal, body)
        with in_words_of_messages():
            return {"input_tokens": await asked_tokens(self._dispatch, principal, asked.model, asked.task)}

    async def _asked(self, principal: Principal, body: MessageCountBody) -> Asked:
        model = await self._dispatch.model(principal, body.model, Ability.CHAT)
        native = engine(model.engine).speaks_openai
        with in_words_of_messages():
            chat = chat_body(body, thinks_unasked=not native)
            return Asked(chat, model, chat_reading.chat_task(chat, speaks_openai=native))

    def _open(self, principal: Principal, asked: Asked, ticket: Ticket) -> Call:
        notes = {} if asked.chat.user is None else {"user": asked.chat.user}

        def task_for(other: Model) -> ChatTask:
            return chat_reading.chat_task(asked.chat, speaks_openai=engine(other.engine).speaks_openai)

        return self._dispatch.open(Order(ticket, principal, asked.model, asked.task, notes, asked.chat.model, task_for))


def _builder(body: MessageBody, model: Model, ticket: Ticket) -> MessageBuilder:
    thoughts = body.thinking is not None and body.thinking.type == "adaptive"
    return MessageBuilder(f"msg_{ticket.request_id.partition('_')[2]}", model.id, thoughts=thoughts)
