"""Files as kept things of people: exported, erased, expired, counted. See `contracts.holdings`.

A person's files are those that the person stored; what a client's end user is called says nothing about a file.
"""

from collections.abc import AsyncIterator

from sqlalchemy import ColumnElement, Connection, select

from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.holdings import Held, Subject
from dayspring.core.errors import NotFound
from dayspring.files.names import plain_name
from dayspring.files.parts import delete_uploads, uploads
from dayspring.files.records import File, delete_files, files
from dayspring.files.service import Files
from dayspring.files.space import kept_bytes
from dayspring.store.database import Database

__all__ = ["FilesHolder"]


class FilesHolder:
    kind = "files"

    def __init__(self, room: Files, db: Database, blobs: BlobStore) -> None:
        self._room = room
        self._db = db
        self._blobs = blobs

    async def export(self, subject: Subject) -> AsyncIterator[Held]:
        """Each file with its content, in memory one at a time."""
        if not subject.user_id:
            return

        def read(connection: Connection) -> list[File]:
            rows = connection.execute(select(files).where(*_of(subject)).order_by(files.c.id)).mappings()
            return [File(**row) for row in rows]

        for file in await self._db.read(read):
            try:
                content = b"".join(self._blobs.read(file.sha256))
            except NotFound:
                continue  # deleted since
            yield Held(f"files/{file.id}/{plain_name(file.name)}", content)

    async def erase(self, subject: Subject) -> int:
        if not subject.user_id:
            return 0
        return await self._delete(*_of(subject), uploads_of=subject)

    async def expire(self, project_id: str, before_ns: int) -> int:
        return await self._delete(files.c.project_id == project_id, files.c.created_at_ns < before_ns)

    async def _delete(self, *conditions: ColumnElement[bool], uploads_of: Subject | None = None) -> int:
        def take_out(connection: Connection) -> list[str]:
            if uploads_of is not None:
                here = uploads.c.organization_id == uploads_of.organization_id
                delete_uploads(connection, here, uploads.c.user_id == uploads_of.user_id)
            return [row.sha256 for row in delete_files(connection, *conditions)]

        gone = await self._db.write(take_out)
        self._room.release(set(gone))
        return len(gone)

    async def stored_bytes(self, project_id: str) -> int:
        return await self._db.read(lambda connection: kept_bytes(connection, project_id))


def _of(subject: Subject) -> list[ColumnElement[bool]]:
    return [files.c.organization_id == subject.organization_id, files.c.user_id == subject.user_id]
