"""The making of one response: what is asked, the metered call, and the stored object at its end.

What holds: nothing is said before the money is reserved and, in the background, the row is there; the last event comes
after the settlement and after the object is stored. A foreground response that cannot be stored says `store: false`;
one in the background is tried until it is, since its row must not stay unfinished.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.principals import Principal
from dayspring.chat import reading as chat_reading
from dayspring.chat.account import account_object
from dayspring.chat.bodies import ChatCompletionBody
from dayspring.chat.responses import stored
from dayspring.chat.responses.bodies import ResponseBody
from dayspring.chat.responses.building import ResponseBuilder
from dayspring.chat.responses.reading import in_words_of_responses
from dayspring.chat.tools import answering_readers
from dayspring.contracts.clock import Clock
from dayspring.contracts.events import Event, Usage
from dayspring.contracts.models import Model
from dayspring.contracts.registry import engine
from dayspring.contracts.tasks import ChatTask
from dayspring.core.errors import DayspringError, Defect
from dayspring.dispatch.service import Call, Dispatch
from dayspring.dispatch.values import Order, Receipt, Ticket
from dayspring.store.database import Database

__all__ = ["Asked", "Making", "as_task"]

log = logging.getLogger(__name__)

_AGAIN_S = 2.0
"""Between two tries to store the end of a response that was made in the background."""


class Asked(msgspec.Struct, frozen=True):
    """A body, understood."""

    principal: Principal
    body: ResponseBody
    model: Model
    task: ChatTask
    chat: ChatCompletionBody
    input: list[dict[str, Any]]
    """This turn's own items."""

    def reader(self, model: Callable[[], Model]) -> Callable[[Event], Any]:
        return answering_readers(self.chat, 1, model)


def as_task(chat: ChatCompletionBody, model: Model) -> ChatTask:
    return chat_reading.chat_task(chat, speaks_openai=engine(model.engine).speaks_openai)


class Making:
    def __init__(
        self, dispatch: Dispatch, db: Database, clock: Clock, asked: Asked, ticket: Ticket, builder: ResponseBuilder
    ) -> None:
        self._dispatch = dispatch
        self._db = db
        self._clock = clock
        self._asked = asked
        self._ticket = ticket
        self.builder = builder
        self._created_ns = clock.time_ns()
        self._call: Call | None = None
        self._receipt: Receipt | None = None
        self._background = bool(asked.body.background)
        self._begun = False
        self.last: list[dict[str, Any]] = []
        """The events of the end, the last one last."""

    @property
    def receipt(self) -> Receipt:
        """What it came to, once all events were read."""
        if self._receipt is None:
            raise Defect(self._ticket.request_id)
        return self._receipt

    @property
    def used(self) -> tuple[Usage | None, int]:
        """What was used so far, and how much of the output was thought."""
        return (None, 0) if self._call is None else (self._call.used, self._call.reasoning_tokens)

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """Makes it. Raises what the call raises, in the words of this body."""
        asked, builder = self._asked, self.builder
        with in_words_of_responses():
            order = Order(
                self._ticket, asked.principal, asked.model, asked.task, _notes(asked.body), asked.body.model,
                lambda other: as_task(asked.chat, other),
            )  # fmt: skip
            async with self._dispatch.open(order) as call:
                self._call = call
                read = asked.reader(lambda: call.model)
                if self._background:
                    await self._db.write(self._row())
                    for event in builder.begin():
                        yield event
                async for made in call:
                    builder.response["model"] = call.model.id
                    for event in self._begin():
                        yield event
                    for each in read(made):
                        for event in builder.add(each):
                            yield event
                self._receipt = await call.settle()
                thought = call.reasoning_tokens
        begun = self._begin()
        self.last = builder.complete(self._receipt.usage, thought, self._clock.time_ns() // 10**9)
        await self.keep()
        # What runs in the background is read by other keys of the project too, which may not see prices.
        if not self._background and (account := account_object(self._receipt, asked.principal)):
            self.last[-1]["dayspring"] = account
        for event in (*begun, *self.last):
            yield event

    def _begin(self) -> list[dict[str, Any]]:
        """The events of the beginning, once."""
        if self._begun:
            return []
        self._begun = True
        if not self._background:
            return self.builder.begin()
        identifier = self.builder.response["id"]
        self._db.follow(lambda connection: stored.mark(connection, identifier, "in_progress"))
        return self.builder.start()

    async def keep(self) -> None:
        """Stores the object as it is now, if it is to be."""
        if self._background:
            made = self.builder.snapshot()
            await self._until_written(lambda connection: stored.finish(connection, made))
        elif self._asked.body.keeps:
            try:
                await self._db.write(self._row())
            except DayspringError as error:
                log.error("a response was not stored", extra={"reason": error.message})
                self.builder.response["store"] = self.last[-1]["response"]["store"] = False

    def _row(self) -> Callable[[Connection], None]:
        body = self._asked.body
        made = self.builder.snapshot()
        row = stored.Row(
            kind="response",
            principal=self._asked.principal,
            object=made,
            input=self._asked.input,
            created_at_ns=self._created_ns,
            end_user=body.user or "",
            safety_identifier=body.safety_identifier or "",
            instance_id="" if made["status"] not in stored.RUNNING else self._dispatch.ledger.instance_id,
            status=made["status"],
        )
        return lambda connection: stored.keep(connection, row)

    async def _until_written(self, write: Callable[[Connection], Any]) -> None:
        while True:
            try:
                await self._db.write(write)
            except DayspringError as error:
                log.warning("a response is not stored yet", extra={"reason": error.message})
                await asyncio.sleep(_AGAIN_S)
            else:
                return


def _notes(body: ResponseBody) -> dict[str, str]:
    """What the caller wants kept with the request's account."""
    named = {"user": body.user, "safety_identifier": body.safety_identifier}
    return (body.metadata or {}) | {field: value for field, value in named.items() if value is not None}
