"""The verbs of /v1/responses: create (whole, as a stream, in the background), read, cancel, delete, count.

What holds: the end of a response leaves only after it is settled and stored, so whoever received it in full finds it in
the ledger and, unless `store` is false, by its id; the stored object is the one that was sent. A response made in the
background is stored before it begins, and ends as failed when its server does. One response is one metered request.
A response of another project is NotFound.
What it does not do: keep a response whose client left before its end, unless it runs in the background.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from sqlalchemy import Connection, select

from dayspring.accounts.principals import Principal, Scope
from dayspring.chat.counting import asked_tokens, input_tokens
from dayspring.chat.responses import stored
from dayspring.chat.responses.bodies import ResponseBody, TokenCountBody
from dayspring.chat.responses.building import ResponseBuilder
from dayspring.chat.responses.items import REFERENCE, read_items
from dayspring.chat.responses.making import Asked, Making, as_task
from dayspring.chat.responses.objects import error_object, response_head
from dayspring.chat.responses.pages import ItemPage, item_page
from dayspring.chat.responses.reading import chat_body, check, in_words_of_responses
from dayspring.chat.responses.runs import Run, Runs
from dayspring.chat.responses.truncation import fitted
from dayspring.contracts.clock import Clock
from dayspring.contracts.models import Ability, Model
from dayspring.core.errors import DayspringError, Defect, InvalidRequest, NotFound, PermissionDenied, Unavailable
from dayspring.dispatch.service import Dispatch
from dayspring.dispatch.values import Receipt, Ticket
from dayspring.ledger.instances import instances
from dayspring.store.database import Database

__all__ = ["ResponsesService"]

log = logging.getLogger(__name__)

Made = dict[str, Any]
Events = AsyncGenerator[dict[str, Any], None]
Admit = Callable[[Principal], Awaitable[None]]
"""Raises when the principal's project may not keep more."""


async def _anyone(_principal: Principal) -> None:
    """No quota."""


class ResponsesService:
    def __init__(self, dispatch: Dispatch, db: Database, clock: Clock, admit: Admit = _anyone) -> None:
        self._dispatch = dispatch
        self._db = db
        self._clock = clock
        self._admit = admit
        self._runs = Runs()

    async def create(self, principal: Principal, body: ResponseBody, ticket: Ticket) -> tuple[Made, Receipt]:
        """One whole response."""
        making = self._making(await self._asked(principal, body), ticket)
        async with aclosing(making.events()) as events:
            async for event in events:
                last = event
        return last["response"], making.receipt

    async def stream(self, principal: Principal, body: ResponseBody, ticket: Ticket) -> Events:
        """The events of one response. What goes wrong after the first is an event as well."""
        making = self._making(await self._asked(principal, body), ticket)
        begun = False
        try:
            async with aclosing(making.events()) as events:
                async for event in events:
                    begun = True
                    yield event
                return
        except Exception as error:
            if not begun:
                raise
            making.last = making.builder.fail(_of_the_tree(error, ticket))
        await making.keep()
        for event in making.last:
            yield event

    async def begin(self, principal: Principal, body: ResponseBody, ticket: Ticket) -> Made:
        """A response that is made in the background: the object as it is queued."""
        return (await self._begun(principal, body, ticket)).queued

    async def begin_stream(self, principal: Principal, body: ResponseBody, ticket: Ticket) -> Events:
        """The events of a response that is made in the background, and goes on when their reader leaves."""
        run = await self._begun(principal, body, ticket)
        async for event in run.follow():
            yield event

    async def get(self, principal: Principal, response_id: str) -> Made:
        """A stored response as its client saw it, or as far as it is. Raises NotFound."""
        row, made = await self._found(principal, response_id)
        run = self._runs.find(response_id)
        return made if run is None or row.status not in stored.RUNNING else run.builder.snapshot()

    async def resume(self, principal: Principal, response_id: str, after: int) -> Events:
        """The events behind number `after`. Where single events are no longer kept, the last one, with everything."""
        row, made = await self._found(principal, response_id)
        run = self._runs.find(response_id)
        if run is not None:
            async for event in run.follow(after):
                yield event
            return
        if row.status in stored.RUNNING:
            elsewhere = "This response is being made by another server"
            raise Unavailable(elsewhere, "Read it without stream until it has ended.", retry_after_s=2)
        begun = made | {"status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
        end = made["status"] if made["status"] in ("completed", "failed") else "incomplete"
        for number, (name, response) in enumerate((("created", begun), ("in_progress", begun), (end, made))):
            if number > after or response is made:
                yield {"type": f"response.{name}", "sequence_number": max(number, after + 1), "response": response}

    async def cancel(self, principal: Principal, response_id: str) -> Made:
        """Ends a response that is made in the background; one that has ended stays as it is."""
        row, made = await self._found(principal, response_id)
        if not made["background"]:
            raise InvalidRequest("Only what runs in the background can be cancelled. Close the connection instead.")
        if row.status in stored.RUNNING and not await self._runs.cancel(response_id):
            # Another server of this database works on it, and looks for this with `watch`.
            await self._db.write(lambda connection: stored.mark(connection, response_id, "cancelled"))
        return (await self._found(principal, response_id))[1]

    async def delete(self, principal: Principal, response_id: str) -> Made:
        """Raises NotFound. One that is being made is cancelled first."""
        row, _ = await self._found(principal, response_id)
        if row.status in stored.RUNNING:
            await self.cancel(principal, response_id)
        conditions = [stored.responses.c.id == response_id, *stored.seen_by(principal)]
        await self._db.write(lambda connection: stored.drop(connection, *conditions))
        self._runs.forget(response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    async def input_items(self, principal: Principal, response_id: str, page: ItemPage) -> Made:
        """What went into a response, by pages."""
        await self._found(principal, response_id)
        return item_page(
            await self._db.read(lambda connection: stored.items_of(connection, response_id, "input")), page
        )

    async def count(self, principal: Principal, body: TokenCountBody) -> Made:
        """Input tokens that a response to this body would be charged for."""
        check(body)
        model = await self._dispatch.model(principal, body.model, Ability.CHAT)
        items = [*await self._before(principal, body), *await self._resolved(principal, read_items(body.input))]
        with in_words_of_responses():
            counted = await asked_tokens(self._dispatch, principal, model, as_task(chat_body(body, items), model))
        return {"object": "response.input_tokens", "input_tokens": counted}

    async def recover(self) -> int:
        """Ends what servers that are gone were working on: failed, with its reason. How many."""
        error = Unavailable("The server ended before this response was finished", "Ask again.")

        def end(connection: Connection) -> int:
            rows = stored.unfinished(connection, select(instances.c.id))
            for row in rows:
                made = stored.whole(connection, row)
                if row.status in stored.RUNNING:
                    made |= {"status": "failed", "error": error_object(error)}
                stored.finish(connection, made)
            return len(rows)

        return await self._db.write(end)

    async def watch(self) -> None:
        """Stops what another server of this database was asked to cancel."""
        running, table = self._runs.running(), stored.responses
        if not running:
            return
        query = select(table.c.id).where(table.c.id.in_(running), table.c.status == "cancelled")
        for response_id in await self._db.read(lambda connection: connection.execute(query).scalars().all()):
            await self._runs.cancel(response_id)

    async def close(self) -> None:
        """Ends what runs in the background."""
        await self._runs.close()

    def _making(self, asked: Asked, ticket: Ticket) -> Making:
        identifier = f"resp_{ticket.request_id.partition('_')[2]}"
        head = response_head(asked.body, asked.model.id, identifier, self._clock.time_ns() // 10**9)
        return Making(self._dispatch, self._db, self._clock, asked, ticket, ResponseBuilder(head))

    async def _asked(self, principal: Principal, body: ResponseBody) -> Asked:
        """The body, understood. Raises what is wrong with it."""
        check(body)
        model = await self._dispatch.model(principal, body.model, Ability.CHAT)
        if body.keeps:
            await self._admit(principal)
        given = await self._resolved(principal, read_items(body.input))
        items = [*await self._before(principal, body), *given]
        with in_words_of_responses():
            if body.truncation == "auto" and model.context_tokens:
                items = await self._fitted(body, model, items)
            chat = chat_body(body, items)
            return Asked(principal, body, model, as_task(chat, model), chat, given)

    async def _before(self, principal: Principal, body: TokenCountBody) -> list[Made]:
        """What was said before, of the key's own project."""
        previous = body.previous_response_id
        if previous is None:
            return []
        project = principal.project_id
        return await self._db.read(lambda connection: stored.conversation(connection, project, previous))

    async def _resolved(self, principal: Principal, items: list[Made]) -> list[Made]:
        """The items, references replaced by what they refer to. Raises NotFound."""
        wanted = {item["id"] for item in items if item["type"] == REFERENCE}
        if not wanted:
            return items
        project = principal.project_id

        def find(connection: Connection) -> dict[str, Made | None]:
            return {item_id: stored.find_item(connection, project, item_id) for item_id in wanted}

        found = await self._db.read(find)
        missing = next((item_id for item_id, item in found.items() if item is None), None)
        if missing is not None:
            raise NotFound("item", missing, "Send the item itself.", param="input")
        return [found[item["id"]] or item if item["type"] == REFERENCE else item for item in items]

    async def _fitted(self, body: ResponseBody, model: Model, items: list[Made]) -> list[Made]:
        room = max(model.context_tokens - (body.max_output_tokens or 1), model.context_tokens // 2)

        async def count(some: list[Made]) -> int:
            return await input_tokens(self._dispatch, model, as_task(chat_body(body, some), model))

        return await fitted(items, room, count)

    async def _found(self, principal: Principal, response_id: str) -> tuple[Any, Made]:
        if not (principal.may(Scope.INFERENCE) or principal.may(Scope.MANAGE)):
            raise PermissionDenied("This key may not read responses", "Use a key with the scope 'inference'.")

        def find(connection: Connection) -> tuple[Any, Made] | None:
            row = stored.find(connection, "response", response_id, stored.seen_by(principal))
            return None if row is None else (row, stored.whole(connection, row))

        found = await self._db.read(find)
        if found is None:
            raise NotFound("response", response_id[:100], "Check the id; it may have been deleted, or not stored.")
        return found

    async def _begun(self, principal: Principal, body: ResponseBody, ticket: Ticket) -> Run:
        """A run that holds its money and its row. Raises what the reservation raises."""
        making = self._making(await self._asked(principal, body), ticket)
        self._runs.check_room()
        run = Run(making.builder)
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runs.start(making.builder.response["id"], run, self._work(run, making, ticket, started))
        await asyncio.shield(started)
        return run

    async def _work(self, run: Run, making: Making, ticket: Ticket, started: "asyncio.Future[None]") -> None:
        """Makes a response whoever listens; its end is stored whatever ends it."""
        try:
            async with aclosing(making.events()) as events:
                async for event in events:
                    run.add([event])
                    if not started.done():
                        started.set_result(None)
        except asyncio.CancelledError:
            if not started.done():
                started.set_exception(Unavailable("The server is stopping", "Ask again in a moment.", retry_after_s=5))
                return
            stopped = Unavailable("The server stopped before this response was finished", "Ask again.")
            if not making.builder.ended:
                used = making.used
                making.last = making.builder.cancel(*used) if run.unwanted else making.builder.fail(stopped)
            await making.keep()  # also what had ended and was cut short on its way into the database
        except Exception as error:  # noqa: BLE001 - whatever it is, the response ends with it
            if not started.done():
                started.set_exception(error)
                return
            making.last = making.builder.fail(_of_the_tree(error, ticket))
            await making.keep()
        run.add(making.last, last=True)


def _of_the_tree(error: Exception, ticket: Ticket) -> DayspringError:
    if isinstance(error, DayspringError):
        return error
    log.error("a response failed", exc_info=error, extra={"request_id": ticket.request_id})
    return Defect(ticket.request_id)
