"""What batches keep for people: their rows, and the folder of one under way. Their files belong to the files room."""

import asyncio
from collections.abc import AsyncIterator

import orjson
from sqlalchemy import Connection

from dayspring.batches import records
from dayspring.batches.steps import BatchWork
from dayspring.batches.wire import batch_object
from dayspring.contracts.holdings import Held, Subject
from dayspring.store.database import Database

__all__ = ["BatchHolder"]


class BatchHolder:
    """A Holder. An end user is named inside a batch's files only, which the files room holds."""

    kind = "batches"

    def __init__(self, work: BatchWork, db: Database) -> None:
        self._work = work
        self._db = db

    async def export(self, subject: Subject) -> AsyncIterator[Held]:
        if not subject.user_id:
            return
        found = await self._db.read(
            lambda connection: records.of_person(connection, subject.organization_id, subject.user_id)
        )
        for batch in found:
            content = orjson.dumps(batch_object(batch).model_dump(), option=orjson.OPT_INDENT_2)
            yield Held(f"batches/{batch.id}.json", content)

    async def erase(self, subject: Subject) -> int:
        """Ends those under way, and deletes the rest with their notes."""
        if not subject.user_id:
            return 0

        def erase(connection: Connection) -> list[str]:
            found = records.of_person(connection, subject.organization_id, subject.user_id)
            for batch in found:
                if not batch.ended:
                    self._work.ask_end(connection, batch.id)
            ids = [batch.id for batch in found]
            records.remove(connection, ids)
            return ids

        return await self._gone(await self._db.write(erase))

    async def expire(self, project_id: str, before_ns: int) -> int:
        def expire(connection: Connection) -> list[str]:
            ids = records.ended_before(connection, project_id, before_ns)
            records.remove(connection, ids)
            return ids

        return await self._gone(await self._db.write(expire))

    async def stored_bytes(self, project_id: str) -> int:
        ids = await self._db.read(lambda connection: records.of_project(connection, project_id))
        return await asyncio.to_thread(lambda: sum(self._work.folder(each).size_bytes() for each in ids))

    async def _gone(self, ids: list[str]) -> int:
        for batch_id in ids:
            self._work.ask(batch_id)
            await asyncio.to_thread(self._work.folder(batch_id).remove)
        return len(ids)
