"""Stored responses and chat completions as something kept for people: shown, erased, expired, measured."""

from collections.abc import AsyncIterator
from functools import partial

import orjson
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from dayspring.chat.responses import stored
from dayspring.contracts.holdings import Held, Subject
from dayspring.store.database import Database

__all__ = ["StoredResponses"]

_AT_ONCE = 100


class StoredResponses:
    """See `contracts.holdings.Holder`. A response that is being made is left alone until it has ended."""

    kind = "responses"

    def __init__(self, db: Database) -> None:
        self._db = db

    async def export(self, subject: Subject) -> AsyncIterator[Held]:
        last = ""
        while True:
            found = await self._db.read(partial(_shown, [*_of(subject), stored.responses.c.id > last]))
            for identifier, content in found:
                yield Held(f"responses/{identifier}.json", content)
            if len(found) < _AT_ONCE:
                return
            last = found[-1][0]

    async def erase(self, subject: Subject) -> int:
        conditions = _of(subject)
        return await self._db.write(lambda connection: stored.drop(connection, *conditions))

    async def expire(self, project_id: str, before_ns: int) -> int:
        table = stored.responses.c
        old = (table.project_id == project_id, table.created_at_ns < before_ns, table.instance_id == "")
        return await self._db.write(lambda connection: stored.drop(connection, *old))

    async def stored_bytes(self, project_id: str) -> int:
        table = stored.responses.c
        query = select(func.coalesce(func.sum(table.size_bytes), 0)).where(table.project_id == project_id)
        return int(await self._db.read(lambda connection: connection.execute(query).scalar_one()))


def _of(subject: Subject) -> list[ColumnElement[bool]]:
    """Rows of a person: none for a subject that names nobody."""
    table = stored.responses.c
    named = [table.user_id == subject.user_id] if subject.user_id else []
    if subject.end_user:
        named += [table.end_user == subject.end_user, table.safety_identifier == subject.end_user]
    return [and_(table.organization_id == subject.organization_id, or_(table.id.is_(None), *named))]


def _shown(conditions: list[ColumnElement[bool]], connection: Connection) -> list[tuple[str, bytes]]:
    """Each with what went in and what came out, by id."""
    table = stored.responses
    rows = connection.execute(select(table).where(*conditions).order_by(table.c.id).limit(_AT_ONCE)).all()
    shown: list[tuple[str, bytes]] = []
    for row in rows:
        made = stored.whole(connection, row) if row.kind == "response" else orjson.loads(row.body)
        made |= {"input": stored.items_of(connection, row.id, "input")}
        shown.append((row.id, orjson.dumps(made, option=orjson.OPT_INDENT_2)))
    return shown
