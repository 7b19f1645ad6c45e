"""Batches: a file of requests answered when there is room, at the batch price, with one file of answers at the end.

What holds: a batch is made whole or not at all; its input stays as it was when the batch was made, whatever becomes of
the user's file. Every verb sees the principal's project alone, a manager's the organization's, an administrator's all.
What it does not do: answer. See `steps`.
"""

import asyncio
import re

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.principals import Principal, Scope
from dayspring.batches import records
from dayspring.batches.lines import MAX_BYTES
from dayspring.batches.steps import BatchWork
from dayspring.batches.values import ENDPOINTS, Batch, Tally
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, InvalidRequest, PermissionDenied, TooLarge
from dayspring.core.ids import new_id
from dayspring.files.service import Files, check_expiry
from dayspring.store.database import Database

__all__ = ["Batches", "NewBatch"]

MAX_PAGE = 100
_HOUR_S = 3600
_LONGEST_H = 14 * 24


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for."""

    input_file_id: str
    endpoint: str
    completion_window: str = "24h"
    """Hours or days, `1h` to `14d`."""
    metadata: dict[str, str] | None = None
    output_expires_s: int | None = None
    """When the output and error files expire, from when they are made; None: as files of a batch do."""


class Batches:
    def __init__(self, work: BatchWork, db: Database, files: Files, clock: Clock) -> None:
        self._work = work
        self._db = db
        self._files = files
        self._clock = clock

    async def create(self, principal: Principal, new: NewBatch) -> Batch:
        """Raises NotFound for no such file, InvalidRequest for what cannot be a batch, TooLarge."""
        if not principal.may(Scope.INFERENCE):
            raise PermissionDenied("This key may not call models", "Use a key with the scope 'inference'.")
        if new.endpoint not in ENDPOINTS:
            raise InvalidRequest(f"A batch's endpoint is one of {', '.join(ENDPOINTS)}. Use one.", param="endpoint")
        window_s = _window_s(new.completion_window)
        check_expiry(new.output_expires_s)
        file = await self._files.get(principal, new.input_file_id)
        if file.purpose != "batch":
            raise InvalidRequest(
                f"The file {file.id} was uploaded for {file.purpose!r}. Upload it with the purpose 'batch'.",
                param="input_file_id",
            )
        if file.size_bytes > MAX_BYTES:
            raise TooLarge(what="The batch's input file", limit_bytes=MAX_BYTES, setting="the number of batches")
        now_ns = self._clock.time_ns()
        batch = Batch(
            id=new_id("batch"), organization_id=principal.organization_id, project_id=principal.project_id,
            key_id=principal.key_id, user_id=principal.user_id, endpoint=new.endpoint, input_file_id=file.id,
            completion_window=new.completion_window, output_expires_s=new.output_expires_s, metadata=new.metadata,
            status="validating", model=None, total=0, tally=Tally(), faults=(), output_file_id=None,
            error_file_id=None, created_at_ns=now_ns, expires_at_ns=now_ns + window_s * 10**9, in_progress_at_ns=None,
            finalizing_at_ns=None, cancelling_at_ns=None, ended_at_ns=None,
        )  # fmt: skip
        path = await self._files.path(principal, file.id)
        await asyncio.to_thread(self._work.folder(batch.id).make, path)

        def make(connection: Connection) -> None:
            self._work.add(connection, batch)
            records.add(connection, batch)

        await self._db.write(make)
        self._work.wake()
        return batch

    async def get(self, principal: Principal, batch_id: str) -> Batch:
        """Raises NotFound, also for another project's."""
        return await self._db.read(lambda connection: records.find(connection, batch_id, principal))

    async def list(
        self, principal: Principal, *, after: str | None = None, limit: int = 20
    ) -> tuple[list[Batch], bool]:
        """Newest first, and whether there are more. Raises InvalidRequest, NotFound for an unknown `after`."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"The limit is from 1 to {MAX_PAGE}. Correct it.", param="limit")
        found = await self._db.read(lambda connection: records.page(connection, principal, after, limit + 1))
        return found[:limit], len(found) > limit

    async def cancel(self, principal: Principal, batch_id: str) -> Batch:
        """Begins no more requests, and delivers what is answered. Idempotent. Raises NotFound, Conflict."""
        now_ns = self._clock.time_ns()

        def ask(connection: Connection) -> Batch:
            batch = records.find(connection, batch_id, principal)
            if batch.status in ("completed", "failed", "expired", "finalizing"):
                raise Conflict(f"The batch {batch_id} is {batch.status}", "There is nothing left to cancel.")
            open_states = frozenset({"validating", "in_progress"})
            if records.change(connection, batch_id, open_states, status="cancelling", cancelling_at_ns=now_ns):
                self._work.ask_end(connection, batch_id)
            return records.find(connection, batch_id)

        batch = await self._db.write(ask)
        self._work.ask(batch_id)
        return batch

    async def clear(self) -> int:
        """Removes the folders of batches that were never made, or that have ended. How many. At a start."""
        folders = await asyncio.to_thread(self._work.folders)
        alive = await self._db.read(lambda connection: records.unfinished(connection, list(folders)))
        gone = [folder for batch_id, folder in folders.items() if batch_id not in alive]
        for folder in gone:
            await asyncio.to_thread(folder.remove)
        return len(gone)


def _window_s(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,2})([hd])", text)
    hours = int(match[1]) * (24 if match[2] == "d" else 1) if match else 0
    if not 1 <= hours <= _LONGEST_H:
        raise InvalidRequest(
            "A completion_window is a number of hours or days from 1h to 14d, such as 24h. Correct it.",
            param="completion_window",
        )
    return hours * _HOUR_S
