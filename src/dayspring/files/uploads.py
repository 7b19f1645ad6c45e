"""Files that arrive in parts: in any order, side by side, some of them again after a cut connection.

What holds: a part is there whole or not at all, and what has arrived can be asked for; the parts become one file in one
transaction, once, however often completion is asked for; an upload whose hour is over leaves nothing behind.
What it does not do: survive the loss of this machine's disk; a backup has finished files only.
"""

import asyncio
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
from sqlalchemy import Connection, select

from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Busy, Conflict, InvalidRequest, NotFound, TooLarge
from dayspring.core.ids import new_id
from dayspring.core.settings import Settings
from dayspring.files.incoming import Incoming
from dayspring.files.names import clean_name
from dayspring.files.parts import (
    CANCELLED,
    COMPLETED,
    EXPIRED,
    PENDING,
    Part,
    Upload,
    add_part,
    add_upload,
    delete_uploads,
    end_upload,
    find_upload,
    list_parts,
    pending_ids,
    uploads,
)
from dayspring.files.purposes import check_purpose
from dayspring.files.records import File, check_scope, find_file
from dayspring.files.service import Files, check_expiry
from dayspring.files.space import disk_failure
from dayspring.store.database import Database

__all__ = ["PART_BYTES", "UploadState", "Uploads"]

PART_BYTES = 64 << 20
"""Largest part, as OpenAI's clients cut them."""

_HOUR_NS = 3_600_000_000_000
_REMEMBERED_NS = 24 * _HOUR_NS
"""How long the end of an upload can be asked for."""
_MOST_PENDING = 1000
_MOST_PARTS = 10_000
_CHUNK_BYTES = 1 << 20


class UploadState(msgspec.Struct, frozen=True):
    """An upload, what has arrived of it, and what it became."""

    upload: Upload
    status: str
    parts: list[Part] = []
    file: File | None = None


class Uploads:
    def __init__(self, files: Files, db: Database, settings: Settings, clock: Clock) -> None:
        self._files = files
        self._db = db
        self._clock = clock
        self._settings = settings
        self._folder = settings.home / "uploads"
        self._completing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def create(
        self, principal: Principal, *, name: str, purpose: str, size_bytes: int, expires_after_s: int | None = None
    ) -> UploadState:
        """An upload of a file of so many bytes. Raises InvalidRequest, TooLarge, Busy for too many under way."""
        check_scope(principal)
        check_purpose(purpose)
        check_expiry(expires_after_s)
        if size_bytes < 1:
            raise InvalidRequest("An upload has at least one byte. Correct bytes.", param="bytes")
        if size_bytes > self._settings.max_file_bytes:
            raise TooLarge(
                what="The file", limit_bytes=self._settings.max_file_bytes, setting="DAYSPRING_MAX_FILE_BYTES"
            )
        now_ns = self._clock.time_ns()
        upload = Upload(
            new_id("upload"), principal.organization_id, principal.project_id, principal.key_id, principal.user_id,
            clean_name(name), purpose, size_bytes, expires_after_s, PENDING, "", now_ns, now_ns + _HOUR_NS,
        )  # fmt: skip

        def add(connection: Connection) -> None:
            if len(pending_ids(connection, now_ns, principal.project_id)) >= _MOST_PENDING:
                raise Busy(f"The project has {_MOST_PENDING} uploads under way", retry_after_s=60)
            add_upload(connection, upload)

        await self._db.write(add)
        return UploadState(upload, PENDING)

    async def get(self, principal: Principal, upload_id: str) -> UploadState:
        """Raises NotFound."""
        check_scope(principal)
        now_ns = self._clock.time_ns()
        return await self._db.read(lambda connection: _state(connection, principal, upload_id, now_ns))

    async def begin_part(self, principal: Principal, upload_id: str) -> Incoming:
        """A part to be written and given to `keep_part`. Raises NotFound, InvalidRequest when it takes none."""
        state = await self.get(principal, upload_id)
        _check_pending(state)
        replaceable = [part.size_bytes for part in state.parts if part.number is not None]
        folder = self._folder / upload_id
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        return Incoming(
            folder,
            await self._files.claim(state.upload.project_id, max(replaceable, default=0)),
            PART_BYTES,
            too_large=InvalidRequest(f"A part has at most {PART_BYTES} bytes. Cut the file into smaller ones."),
        )

    async def keep_part(
        self, principal: Principal, upload_id: str, incoming: Incoming, number: int | None = None
    ) -> Part:
        """Adds the part. With a `number` it replaces an earlier one of that number, so that sending it again is
        harmless. Raises NotFound, InvalidRequest, DiskQuotaExceeded, Unavailable."""
        if number is not None and not 1 <= number <= _MOST_PARTS:
            raise InvalidRequest(f"A part's number is 1 to {_MOST_PARTS}. Correct it.", param="part_number")
        if not incoming.size_bytes:
            raise InvalidRequest("The part is empty. Send one with content.", param="data")
        await incoming.finish()
        project_id, now_ns = (await self.get(principal, upload_id)).upload.project_id, self._clock.time_ns()
        part = Part(new_id("part"), upload_id, project_id, number, incoming.size_bytes, incoming.md5, now_ns)
        place = self._folder / upload_id / part.id

        def add(connection: Connection) -> str | None:
            state = _state(connection, principal, upload_id, now_ns)
            _check_pending(state)
            same = [each.size_bytes for each in state.parts if number is not None and each.number == number]
            total = sum(each.size_bytes for each in state.parts) - sum(same) + incoming.size_bytes
            if len(state.parts) >= _MOST_PARTS or total > 2 * state.upload.size_bytes + PART_BYTES:
                raise InvalidRequest("The upload has more parts than its bytes need. Cancel it and begin another.")
            incoming.claim.settle(connection, incoming.size_bytes, sum(same))
            return add_part(connection, part)

        def keep() -> Part:
            try:
                incoming.path.rename(place)
                replaced = self._db.write_sync(add)
            except FileNotFoundError:
                raise NotFound("upload", upload_id) from None  # cancelled or over since
            except BaseException:
                place.unlink(missing_ok=True)
                raise
            if replaced is not None:
                (self._folder / upload_id / replaced).unlink(missing_ok=True)
            return part

        return await asyncio.to_thread(keep)

    async def complete(
        self, principal: Principal, upload_id: str, part_ids: Sequence[str] | None = None, md5: str = ""
    ) -> UploadState:
        """One file of the parts in this order, or, without `part_ids`, of all in the order of their numbers.

        Raises NotFound, InvalidRequest for parts or sizes that do not fit, and what `Files.create` raises for the
        content. Asked again after it succeeded, it answers the same.
        """
        lock = self._completing.setdefault(upload_id, asyncio.Lock())
        async with lock:
            state = await self.get(principal, upload_id)
            if state.status == COMPLETED and (part_ids is None or state.file is not None):
                return state
            _check_pending(state)
            parts = _chosen(state, part_ids)
            await self._complete(state, parts, md5.lower())
            return await self.get(principal, upload_id)

    async def _complete(self, state: UploadState, parts: list[Part], md5: str) -> None:
        upload, now_ns = state.upload, self._clock.time_ns()
        owner = Principal(
            upload.organization_id, upload.project_id, upload.key_id, frozenset({"inference"}), user_id=upload.user_id
        )

        def end(connection: Connection, file: File) -> None:
            there = {part.id for part in list_parts(connection, upload.id)}
            if not there.issuperset(part.id for part in parts) or now_ns >= upload.expires_at_ns:
                raise _changed()
            if not end_upload(connection, upload.id, COMPLETED, file.id):
                raise _changed()

        async with await self._files.begin(owner) as incoming:
            incoming.claim.take(0)
            await asyncio.to_thread(self._join, upload.id, parts, incoming)
            if md5 and incoming.md5 != md5:
                raise InvalidRequest(
                    f"The parts together have MD5 {incoming.md5}, not the one that was sent. Send the parts again.",
                    param="md5",
                )
            await self._files.keep(
                owner,
                incoming,
                name=upload.name,
                purpose=upload.purpose,
                expires_after_s=upload.keep_s,
                also=end,
                freed_bytes=sum(part.size_bytes for part in state.parts),
            )
        await asyncio.to_thread(shutil.rmtree, self._folder / upload.id, ignore_errors=True)

    def _join(self, upload_id: str, parts: list[Part], incoming: Incoming) -> None:
        """Each part's bytes are checked against what had arrived."""
        try:
            for part in parts:
                seen = hashlib.md5(usedforsecurity=False)
                with (self._folder / upload_id / part.id).open("rb") as stream:
                    while chunk := stream.read(_CHUNK_BYTES):
                        seen.update(chunk)
                        incoming.append(chunk)
                if seen.hexdigest() != part.md5:
                    raise InvalidRequest(f"Part {part.id} is damaged. Send it again.", param="part_ids")
        except FileNotFoundError:
            raise _changed() from None
        except OSError as error:
            raise disk_failure(error) from None

    async def cancel(self, principal: Principal, upload_id: str) -> UploadState:
        """No more parts; what had arrived goes. Idempotent. Raises NotFound, InvalidRequest when it is completed."""
        state = await self.get(principal, upload_id)
        if state.status == PENDING:
            await self._db.write(lambda connection: end_upload(connection, upload_id, CANCELLED))
            await asyncio.to_thread(shutil.rmtree, self._folder / upload_id, ignore_errors=True)
            state = await self.get(principal, upload_id)
        if state.status == COMPLETED:
            raise InvalidRequest("The upload is completed. Delete its file instead.")
        return state

    async def sweep(self) -> None:
        """Ends uploads whose hour is over, forgets those of yesterday, and removes what no upload needs any more."""
        now_ns = self._clock.time_ns()

        def end(connection: Connection) -> None:
            over = select(uploads.c.id).where(uploads.c.status == PENDING, uploads.c.expires_at_ns <= now_ns)
            for upload_id in connection.execute(over).scalars().all():
                end_upload(connection, upload_id, EXPIRED)
            delete_uploads(connection, uploads.c.expires_at_ns <= now_ns - _REMEMBERED_NS)

        await self._db.write(end)
        # The folders first: one that is made after this look is not looked at.
        folders = await asyncio.to_thread(lambda: list(self._folder.glob("upload_*")))
        pending = await self._db.read(lambda connection: pending_ids(connection, now_ns))
        await asyncio.to_thread(_remove, [folder for folder in folders if folder.name not in pending])


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _state(connection: Connection, principal: Principal, upload_id: str, now_ns: int) -> UploadState:
    upload = find_upload(connection, principal, upload_id)
    file = None
    if upload.file_id:
        try:
            file = find_file(connection, principal, upload.file_id, now_ns)
        except NotFound:
            file = None  # deleted since
    return UploadState(upload, upload.status_at(now_ns), list_parts(connection, upload_id), file)


def _check_pending(state: UploadState) -> None:
    if state.status != PENDING:
        raise InvalidRequest(f"The upload is {state.status}. Begin another one.")


def _chosen(state: UploadState, part_ids: Sequence[str] | None) -> list[Part]:
    """The parts in their order. Raises InvalidRequest where they are not the file that was announced."""
    if part_ids is None:
        if any(part.number is None for part in state.parts):
            raise InvalidRequest("Parts without a number have no order of their own. Send part_ids.", param="part_ids")
        chosen = state.parts
    else:
        known = {part.id: part for part in state.parts}
        missing = [part_id for part_id in part_ids if part_id not in known]
        if missing:
            raise NotFound("part", missing[0], "GET the upload to see its parts.", param="part_ids")
        if len(set(part_ids)) != len(part_ids):
            raise InvalidRequest("A part is named twice. Name each once.", param="part_ids")
        chosen = [known[part_id] for part_id in part_ids]
    size = sum(part.size_bytes for part in chosen)
    if size != state.upload.size_bytes:
        raise InvalidRequest(
            f"The parts have {size} bytes and the upload was announced with {state.upload.size_bytes}. "
            "Send what is missing, or begin another upload.",
            param="part_ids",
        )
    return chosen


def _changed() -> Conflict:
    return Conflict("The upload changed while it was completed", "Ask for its state and complete it again.")
