"""The accounts of requests as something kept for people: shown, and the notes beside them erased and expired.

What holds: erasing and expiring take the notes only. A usage row and its entries stay as they were booked; without
the notes they name a key or a user by an id, which nothing leads from to a person once the user is erased too.
"""

from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, delete, or_, select

from dayspring.accounts.keys import keys
from dayspring.contracts.holdings import Held, Subject
from dayspring.ledger.notes import request_notes
from dayspring.ledger.requests import requests
from dayspring.store.database import Database

__all__ = ["RequestAccounts"]

_AT_ONCE = 1000
_SHOWN = (
    "request_id", "project_id", "key_id", "model", "task", "status", "started_at_ns", "finished_at_ns", "input_tokens",
    "cached_tokens", "output_tokens", "price_nanos",
)  # fmt: skip


class RequestAccounts:
    """See `contracts.holdings.Holder`. Its kind is `logs`: notes are a record of what was asked for whom."""

    kind = "logs"

    def __init__(self, db: Database) -> None:
        self._db = db

    async def export(self, subject: Subject) -> AsyncIterator[Held]:
        """`requests/000001.jsonl`, ...: one request a line, with its notes."""
        last, part = "", 0
        while True:
            rows = await self._db.read(partial(_page, subject, last))
            if not rows:
                return
            part += 1
            lines = b"".join(msgspec.json.encode(_line(row)) + b"\n" for row in rows)
            yield Held(f"requests/{part:06d}.jsonl", lines)
            last = rows[-1]["request_id"]

    async def erase(self, subject: Subject) -> int:
        erased, last = 0, ""
        while True:
            rows = await self._db.read(partial(_page, subject, last))
            if not rows:
                return erased
            last = rows[-1]["request_id"]
            erased += await self._delete([row["request_id"] for row in rows if row["metadata"] is not None])

    async def expire(self, project_id: str, before_ns: int) -> int:
        query = (
            select(request_notes.c.request_id)
            .where(request_notes.c.project_id == project_id, request_notes.c.created_at_ns < before_ns)
            .limit(_AT_ONCE)
        )
        expired = 0
        while True:
            found = await self._db.read(lambda connection: connection.execute(query).scalars().all())
            if not found:
                return expired
            expired += await self._delete(found)

    async def stored_bytes(self, project_id: str) -> int:
        """None: the database does not count towards the quota."""
        return 0

    async def _delete(self, request_ids: Sequence[str]) -> int:
        if not request_ids:
            return 0
        statement = delete(request_notes).where(request_notes.c.request_id.in_(request_ids))
        return await self._db.write(lambda connection: connection.execute(statement).rowcount)


def _page(subject: Subject, after: str, connection: Connection) -> Sequence[RowMapping]:
    query = (
        select(*(requests.c[name] for name in _SHOWN), request_notes.c.metadata)
        .outerjoin(request_notes, request_notes.c.request_id == requests.c.request_id)
        .where(_of(subject), requests.c.request_id > after)
        .order_by(requests.c.request_id)
        .limit(_AT_ONCE)
    )
    return connection.execute(query).mappings().all()


def _of(subject: Subject) -> ColumnElement[bool]:
    """Requests of a person: none for a subject that names nobody."""
    named: list[ColumnElement[bool]] = []
    if subject.user_id:
        own = select(keys.c.id).where(keys.c.user_id == subject.user_id)
        named += [requests.c.key_id == subject.user_id, requests.c.key_id.in_(own)]
    if subject.end_user:
        named += [request_notes.c.end_user == subject.end_user, request_notes.c.safety_identifier == subject.end_user]
    return (requests.c.organization_id == subject.organization_id) & or_(requests.c.request_id.is_(None), *named)


def _line(row: RowMapping) -> dict[str, object]:
    notes = row["metadata"]
    return {name: row[name] for name in _SHOWN} | {"metadata": msgspec.json.decode(notes) if notes else None}
