"""Users' files: kept by content, found by id, seen by their own project alone. The verbs; `uploads` has those of parts.

What holds: a file is there whole or not at all, after a kill at any instant; its media type is what its content is; two
projects that keep the same bytes share one stored file, and no answer, nor the time it takes, tells either of them.
What it does not do: HTTP, or deciding who may call models.
"""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterable, AsyncIterator, Callable
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from dayspring.accounts.principals import Principal
from dayspring.blobs.disk import hash_file
from dayspring.contracts.blobs import BlobStore
from dayspring.contracts.clock import Clock
from dayspring.core.errors import InvalidRequest, NotFound
from dayspring.core.ids import new_id
from dayspring.core.settings import Settings
from dayspring.files.incoming import Incoming
from dayspring.files.kinds import HEAD_BYTES, media_type
from dayspring.files.names import clean_name
from dayspring.files.purposes import PURPOSES, RESULTS, check_content, check_purpose, kept_s, split_lines
from dayspring.files.records import (
    File,
    FilePage,
    FileQuery,
    add_file,
    check_scope,
    delete_files,
    files,
    find_file,
    list_files,
    no_file,
)
from dayspring.files.space import Claim, Quota, Space, disk_failure, kept_bytes
from dayspring.files.streams import batches, begun, in_thread
from dayspring.store.database import Database
from dayspring.store.references import still_referenced

__all__ = ["Also", "Files", "check_expiry"]

log = logging.getLogger(__name__)

Also = Callable[[Connection, File], None]
"""What else belongs into the transaction that makes a file. It may raise a DayspringError before it writes."""

_S = 1_000_000_000
_SHORTEST_S, _LONGEST_S = 3600, 30 * 86_400
"""What OpenAI's `expires_after` takes."""
_LIMIT = 10_000


class Files:
    """`quota` tells what a project may keep; where it tells nothing the setting does. Close it when done."""

    def __init__(
        self, db: Database, blobs: BlobStore, settings: Settings, clock: Clock, *, quota: Quota | None = None
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._clock = clock
        self._settings = settings
        self._quota = quota
        self._space = Space(blobs.incoming, settings.disk_reserve_bytes)
        self._releasing: set[asyncio.Task[None]] = set()

    async def _quota_of(self, project_id: str) -> int | None:
        own = None if self._quota is None else await self._quota(project_id)
        return own if own is not None else self._settings.project_disk_bytes or None

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        purpose: str,
        chunks: AsyncIterable[bytes],
        expires_after_s: int | None = None,
    ) -> File:
        """Stores what the chunks are.

        Raises Refused or Malformed for content that the purpose does not admit, TooLarge, DiskQuotaExceeded,
        Unavailable for a full disk. Then, as when `chunks` raises, nothing is left.
        """
        check_purpose(purpose)
        async with await self.begin(principal) as incoming:
            async for chunk in chunks:
                await incoming.write(chunk)
            return await self.keep(principal, incoming, name=name, purpose=purpose, expires_after_s=expires_after_s)

    async def begin(self, principal: Principal, limit_bytes: int | None = None) -> Incoming:
        """A file whose name and purpose are told later, by `keep`."""
        check_scope(principal)
        claim = await self.claim(principal.project_id)
        return Incoming(self._blobs.incoming, claim, limit_bytes or self._settings.max_file_bytes)

    async def claim(self, project_id: str, spare_bytes: int = 0) -> Claim:
        """Room for bytes that begin to arrive, and may come in the place of up to `spare_bytes` that are kept."""
        quota_bytes = await self._quota_of(project_id)
        kept = 0
        if quota_bytes is not None:
            kept = await self._db.read(lambda connection: kept_bytes(connection, project_id))
        return self._space.claim(project_id, quota_bytes, kept - spare_bytes)

    async def keep(
        self,
        principal: Principal,
        incoming: Incoming,
        *,
        name: str,
        purpose: str,
        expires_after_s: int | None = None,
        also: Also | None = None,
        freed_bytes: int = 0,
    ) -> File:
        """Makes it a file. `also` is done in the same transaction, which frees `freed_bytes`. Raises as `create`."""
        check_purpose(purpose)
        check_expiry(expires_after_s)
        await incoming.finish()
        shown = clean_name(name)

        def settle() -> File:
            kind = check_content(purpose, incoming.media_type, shown, incoming.path, self._settings.max_body_bytes)
            file = self._file(principal, shown, purpose, kind, incoming.sha256, incoming.size_bytes, expires_after_s)

            def add(connection: Connection) -> File:
                incoming.claim.settle(connection, file.size_bytes, freed_bytes)
                if also is not None:
                    also(connection, file)
                add_file(connection, file)
                return file

            with self._blobs.keeping():
                self._blobs.bind(incoming.path, file.sha256, alike=True)
                return self._db.write_sync(add)

        try:
            return await asyncio.to_thread(settle)
        except OSError as error:
            raise disk_failure(error) from None
        except BaseException:
            self.release({incoming.sha256})
            raise

    def _file(
        self,
        principal: Principal,
        name: str,
        purpose: str,
        kind: str,
        digest: str,
        size: int,
        asked_s: int | None,
        file_id: str = "",
    ) -> File:
        now_ns, keep_s = self._clock.time_ns(), kept_s(purpose, asked_s)
        return File(
            file_id or new_id("file"), principal.organization_id, principal.project_id, principal.key_id,
            principal.user_id, name, purpose, kind, digest, size, now_ns,
            None if keep_s is None else now_ns + keep_s * _S,
        )  # fmt: skip

    async def adopt(
        self, principal: Principal, *, name: str, purpose: str, path: Path, file_id: str = "",
        expires_after_s: int | None = None,
    ) -> File:  # fmt: skip
        """Makes a finished file of the server's own a file of the principal's project; `path` is gone afterwards.

        It counts towards the quota and is not refused by it, for the work is done and paid. With `file_id` (from
        `new_id("file")`) a repeated call returns the file that the first one made, whether `path` is still there or
        not. A path on another disk is copied.
        """
        return await asyncio.to_thread(self._adopt, principal, name, purpose, path, file_id, expires_after_s)

    def _adopt(
        self, principal: Principal, name: str, purpose: str, path: Path, file_id: str, expires_after_s: int | None
    ) -> File:
        if purpose not in (*PURPOSES, *RESULTS):
            raise InvalidRequest(f"There is no purpose {purpose!r} of files. Use one of {', '.join(RESULTS)}.")
        if file_id and (made := self._db.read_sync(lambda connection: _made(connection, principal, file_id))):
            path.unlink(missing_ok=True)
            return made
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        size = path.stat().st_size
        kind = media_type(head, size <= HEAD_BYTES)
        file = self._file(principal, clean_name(name), purpose, kind, hash_file(path), size, expires_after_s, file_id)
        # A second name, so that a kill before the commit leaves the first for the repetition.
        second = self._blobs.incoming / file.id
        second.unlink(missing_ok=True)
        try:
            second.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, second)
        with self._blobs.keeping():
            self._blobs.adopt(second, file.sha256)
            self._db.write_sync(lambda connection: add_file(connection, file))
        path.unlink(missing_ok=True)
        return file

    async def get(self, principal: Principal, file_id: str) -> File:
        """Raises NotFound."""
        check_scope(principal)
        now_ns = self._clock.time_ns()
        return await self._db.read(lambda connection: find_file(connection, principal, file_id, now_ns))

    async def list(self, principal: Principal, query: FileQuery | None = None) -> FilePage:
        """By age. Raises NotFound for an unknown `after`, InvalidRequest for a limit outside 1 to 10,000."""
        check_scope(principal)
        wanted, now_ns = query or FileQuery(), self._clock.time_ns()
        if not 1 <= wanted.limit <= _LIMIT:
            raise InvalidRequest(f"A page has 1 to {_LIMIT} files. Correct the limit.", param="limit")
        return await self._db.read(lambda connection: list_files(connection, principal, wanted, now_ns))

    async def delete(self, principal: Principal, file_id: str) -> None:
        """Gone at once for everybody; who is reading it reads to its end. Raises NotFound."""
        check_scope(principal)
        now_ns = self._clock.time_ns()

        def take_out(connection: Connection) -> set[str]:
            find_file(connection, principal, file_id, now_ns)
            return {row.sha256 for row in delete_files(connection, files.c.id == file_id)}

        self.release(await self._db.write(take_out))

    def release(self, digests: set[str]) -> None:
        """Lets go, later, of the stored files that nothing refers to. Later, since that takes a time that would tell
        whether another project keeps the same content."""
        if digests:
            task = asyncio.get_running_loop().create_task(asyncio.to_thread(self._release, digests))
            self._releasing.add(task)
            task.add_done_callback(self._released)

    def _released(self, task: asyncio.Task[None]) -> None:
        self._releasing.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("stored files were not let go of; the next collection does it", exc_info=fault)

    def _release(self, digests: set[str]) -> None:
        self._blobs.release(digests, lambda: self._db.read_sync(partial(still_referenced, digests=digests)))

    async def content(
        self, principal: Principal, file_id: str, span: tuple[int, int] | None = None
    ) -> tuple[File, AsyncIterator[bytes]]:
        """The file and its bytes, which a deletion meanwhile does not cut. Raises NotFound; the iterator raises
        Unavailable before its last chunk when the stored file is damaged. With a `span`, its bytes from the first to
        before the second number, which are not checked: only the whole has a hash."""
        file = await self.get(principal, file_id)
        stored = self._blobs.read(file.sha256) if span is None else self._blobs.read_span(file.sha256, *span)
        try:
            chunks = await asyncio.to_thread(begun, stored)
        except NotFound:
            raise no_file(file_id) from None  # deleted since
        return file, in_thread(chunks)

    async def lines(self, principal: Principal, file_id: str) -> AsyncIterator[bytes]:
        """The file's lines without their ends, empty ones too. Raises NotFound, Malformed for one over
        DAYSPRING_MAX_BODY_BYTES."""
        place = await self.path(principal, file_id)
        try:
            some_lines = await asyncio.to_thread(begun, batches(split_lines(place, self._settings.max_body_bytes)))
        except FileNotFoundError:
            raise no_file(file_id) from None  # deleted since
        async for some in in_thread(some_lines):
            for line in some:
                yield line

    async def path(self, principal: Principal, file_id: str) -> Path:
        """Where the content lies on this machine, to be read only. Raises NotFound. A deletion takes it away."""
        file = await self.get(principal, file_id)
        try:
            return await asyncio.to_thread(self._blobs.path, file.sha256)
        except NotFound:
            raise no_file(file_id) from None

    async def expire(self) -> int:
        """Deletes the files whose time is over. How many."""
        now_ns = self._clock.time_ns()
        gone = await self._db.write(lambda connection: delete_files(connection, files.c.expires_at_ns <= now_ns))
        self.release({row.sha256 for row in gone})
        return len(gone)

    async def close(self) -> None:
        """Waits for what is being let go of."""
        await asyncio.gather(*self._releasing, return_exceptions=True)


def check_expiry(expires_after_s: int | None) -> None:
    """Raises InvalidRequest for less than an hour or more than 30 days."""
    if expires_after_s is not None and not _SHORTEST_S <= expires_after_s <= _LONGEST_S:
        raise InvalidRequest(
            f"A file expires after {_SHORTEST_S} to {_LONGEST_S} seconds. Correct expires_after, or leave it out.",
            param="expires_after",
        )


def _made(connection: Connection, principal: Principal, file_id: str) -> File | None:
    try:
        return find_file(connection, principal, file_id, 0)
    except NotFound:
        return None
