"""What jobs keep for people: their rows and events. What a job makes belongs to the room whose job it is."""

from collections.abc import AsyncIterator

import msgspec
from sqlalchemy import Connection

from dayspring.contracts.holdings import Held, Subject
from dayspring.jobs import records
from dayspring.store.database import Database

__all__ = ["JobHolder"]


class JobHolder:
    """A Holder. A job under way is its room's to end; here its row only forgets whose it was."""

    kind = "jobs"

    def __init__(self, db: Database) -> None:
        self._db = db

    async def export(self, subject: Subject) -> AsyncIterator[Held]:
        if not subject.user_id:
            return
        found = await self._db.read(
            lambda connection: records.of_person(connection, subject.organization_id, subject.user_id)
        )
        for job in found:
            yield Held(f"jobs/{job.id}.json", msgspec.json.format(msgspec.json.encode(job)))

    async def erase(self, subject: Subject) -> int:
        if not subject.user_id:
            return 0

        def erase(connection: Connection) -> int:
            found = records.of_person(connection, subject.organization_id, subject.user_id)
            records.delete_ended(connection, [job.id for job in found if job.ended])
            records.forget_person(connection, subject.organization_id, subject.user_id)
            return len(found)

        return await self._db.write(erase)

    async def expire(self, project_id: str, before_ns: int) -> int:
        def expire(connection: Connection) -> int:
            return records.delete_ended(connection, records.ended_before(connection, project_id, before_ns))

        return await self._db.write(expire)

    async def stored_bytes(self, project_id: str) -> int:
        return 0
