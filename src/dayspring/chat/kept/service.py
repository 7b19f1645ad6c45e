"""Chat completions that their caller asked to be stored (`store: true`): listed, read, their metadata changed, deleted.

What holds: a stored completion is the object that was sent, whole or as the chunks add up, with its metadata; its
messages are those that were sent. Another project's is NotFound. They lie in the table of responses, which see for
erasure, retention and measure.
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import orjson
from sqlalchemy import ColumnElement, Connection, update

from dayspring.accounts.principals import Principal, Scope
from dayspring.chat.bodies import ChatCompletionBody
from dayspring.chat.responses import stored
from dayspring.chat.responses.pages import ItemPage, item_page
from dayspring.contracts.clock import Clock
from dayspring.core.errors import DayspringError, NotFound, PermissionDenied
from dayspring.store.database import Database

__all__ = ["CompletionPage", "KeptCompletions"]

log = logging.getLogger(__name__)

Completion = dict[str, Any]

_AT_ONCE = 100


class CompletionPage(msgspec.Struct, frozen=True):
    """Which part of the list."""

    after: str = ""
    limit: int = 20
    order: Literal["asc", "desc"] = "asc"
    model: str = ""
    metadata: Mapping[str, str] = {}


class KeptCompletions:
    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def keep(self, principal: Principal, body: ChatCompletionBody, made: Completion) -> None:
        """Stores a whole answer and the messages it answers; where that fails it is logged: it was made and paid."""
        messages = [
            {**message.model_dump(exclude_unset=True, mode="json"), "id": f"{made['id']}-{place}"}
            for place, message in enumerate(body.messages)
        ]
        row = stored.Row(
            kind="chat.completion",
            principal=principal,
            object=made | {"metadata": body.metadata or {}},
            input=messages,
            created_at_ns=self._clock.time_ns(),
            end_user=body.user or "",
            safety_identifier=body.safety_identifier or "",
        )
        try:
            await self._db.write(lambda connection: stored.keep(connection, row))
        except DayspringError as error:
            log.error("a chat completion was not stored", extra={"reason": error.message})

    async def list(self, principal: Principal, page: CompletionPage) -> dict[str, Any]:
        """Oldest first, unless asked otherwise. Raises NotFound for an `after` that is not there."""
        seen = _seen(principal)
        conditions = [*seen, *([stored.responses.c.model == page.model] if page.model else [])]

        def look(connection: Connection) -> list[Completion]:
            after = _row(connection, page.after, seen, "after") if page.after else None
            found: list[Completion] = []
            while len(found) <= page.limit:
                rows = stored.page(
                    connection, "chat.completion", conditions, after=after, limit=_AT_ONCE, oldest=page.order == "asc"
                )
                kept = [orjson.loads(row.body) for row in rows]
                found += [made for made in kept if page.metadata.items() <= made["metadata"].items()]
                if len(rows) < _AT_ONCE:
                    break
                after = rows[-1]
            return found

        found = await self._db.read(look)
        data = found[: page.limit]
        return {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": len(found) > page.limit,
        }

    async def get(self, principal: Principal, completion_id: str) -> Completion:
        """Raises NotFound."""
        seen = _seen(principal)
        row = await self._db.read(lambda connection: _row(connection, completion_id, seen))
        made: Completion = orjson.loads(row.body)
        return made

    async def update(self, principal: Principal, completion_id: str, metadata: dict[str, str]) -> Completion:
        """Replaces its metadata. Raises NotFound."""
        seen = _seen(principal)
        table = stored.responses

        def change(connection: Connection) -> Completion:
            row = _row(connection, completion_id, seen)
            made: Completion = orjson.loads(row.body) | {"metadata": metadata}
            body = orjson.dumps(made)
            size = table.c.size_bytes - len(row.body) + len(body)
            connection.execute(update(table).where(table.c.id == row.id).values(body=body, size_bytes=size))
            return made

        return await self._db.write(change)

    async def delete(self, principal: Principal, completion_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        table, seen = stored.responses.c, _seen(principal)

        def drop(connection: Connection) -> int:
            return stored.drop(connection, table.id == _row(connection, completion_id, seen).id)

        await self._db.write(drop)
        return {"object": "chat.completion.deleted", "id": completion_id, "deleted": True}

    async def messages(self, principal: Principal, completion_id: str, page: ItemPage) -> dict[str, Any]:
        """The messages it answers, by pages. Raises NotFound."""
        await self.get(principal, completion_id)
        found = await self._db.read(lambda connection: stored.items_of(connection, completion_id, "input"))
        return item_page([_shown(message) for message in found], page)


def _seen(principal: Principal) -> list[ColumnElement[bool]]:
    if not (principal.may(Scope.INFERENCE) or principal.may(Scope.MANAGE)):
        raise PermissionDenied("This key may not read completions", "Use a key with the scope 'inference'.")
    return stored.seen_by(principal)


def _row(connection: Connection, completion_id: str, seen: list[ColumnElement[bool]], param: str | None = None) -> Any:
    row = stored.find(connection, "chat.completion", completion_id, seen)
    if row is None:
        raise _missing(completion_id, param)
    return row


def _missing(completion_id: str, param: str | None = None) -> NotFound:
    remedy = "Check the id; it may have been deleted, or not stored."
    return NotFound("stored chat completion", completion_id[:100], remedy, param=param)


def _shown(message: dict[str, Any]) -> dict[str, Any]:
    """As OpenAI lists it: text in `content`, a list of parts beside it."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    return {**message, "content": None if parts is not None else content, "content_parts": parts}
