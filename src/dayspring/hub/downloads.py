"""Adding models beside the requests: orders that are told how far they are, paused, taken up again and cancelled.

What holds: an order survives the death of the server, which goes on with it at its next start; what was fetched is kept
through a pause, so nothing is fetched twice; at most AT_ONCE are fetched at the same time.
What it does not do: plan. An order is made from a plan somebody has seen, or could have.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Literal

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.principals import Principal
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, DayspringError, Defect, NotFound
from dayspring.core.ids import new_id
from dayspring.hub.plan import Plan, Progress
from dayspring.hub.service import Hub
from dayspring.store.database import Database
from dayspring.store.downloads import (
    DownloadRow,
    add_download,
    find_download,
    list_downloads,
    set_download,
    unfinished_downloads,
)

__all__ = ["Download", "Downloads"]

log = logging.getLogger(__name__)

AT_ONCE = 3
_ENDED = ("completed", "failed", "cancelled")

State = Literal["queued", "downloading", "verifying", "converting", "paused", "completed", "failed", "cancelled"]
_STATES: dict[str, State] = {
    "download": "downloading",
    "verify": "verifying",
    "convert": "converting",
    "done": "verifying",
}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Plan).decode


class Download(msgspec.Struct, frozen=True):
    """One order, as it is now."""

    id: str
    model: str
    source: str
    status: State
    file: str
    """What is being fetched or worked on."""
    done_bytes: int
    total_bytes: int
    """0: not known."""
    error_code: str
    error_message: str
    created_at: int
    updated_at: int

    @property
    def ended(self) -> bool:
        return self.status in _ENDED


class _Live:
    """An order under way in this process."""

    def __init__(self, row: DownloadRow) -> None:
        self.row = row
        self.progress: Progress | None = None
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()

    def show(self, progress: Progress) -> None:
        self.progress = progress
        self.tell()

    def tell(self) -> None:
        """Wakes whoever watches; each waits for the next event of its own."""
        self.changed.set()
        self.changed = asyncio.Event()


class Downloads:
    """`home` names this server's data folder, so that of several servers each goes on with its own orders."""

    def __init__(self, hub: Hub, db: Database, clock: Clock, home: str) -> None:
        self._hub = hub
        self._db = db
        self._clock = clock
        self._home = home
        self._live: dict[str, _Live] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def start(self) -> None:
        """Goes on with what was under way when the server ended."""
        for row in await self._db.read(lambda connection: unfinished_downloads(connection, self._home)):
            self._begin(row, None)

    async def stop(self) -> None:
        """Stops what is under way; the next start goes on with it."""
        tasks = [live.task for live in self._live.values() if live.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # each has written its own end

    async def order(self, plan: Plan, accepted_by: str, by: Principal | None) -> Download:
        """Adds the plan's model in the background. Raises what can be known before: see `Hub.check`."""
        await self._hub.check(plan, accepted_by or None)
        now = self._now()
        row = DownloadRow(
            new_id("dl"), self._home, plan.id, plan.pinned, _encode(plan), accepted_by, "running", "", "", now, now
        )
        await self._db.write(lambda connection: add_download(connection, row))
        return self._value(row, self._begin(row, by))

    async def get(self, download_id: str) -> Download:
        """Raises NotFound."""
        live = self._live.get(download_id)
        return self._value(live.row if live else await self._row(download_id), live)

    async def list(self, after: str, limit: int) -> list[Download]:
        """Newest first."""
        rows = await self._db.read(lambda connection: list_downloads(connection, after, limit))
        return [self._value(row, self._live.get(row.id)) for row in rows]

    async def watch(self, download_id: str) -> AsyncIterator[Download]:
        """As it is now, then each change, to its end; or until it pauses."""
        while True:
            live = self._live.get(download_id)
            changed = live.changed if live else None
            seen = await self.get(download_id)
            yield seen
            if changed is None or seen.ended or seen.status == "paused":
                return
            await changed.wait()

    async def pause(self, download_id: str) -> Download:
        """Stops it and keeps what was fetched. Raises Conflict when it is not under way here, NotFound."""
        return await self._stop(download_id, "paused", ("running",))

    async def cancel(self, download_id: str) -> Download:
        """Ends it. What was fetched goes with the next tidying up. Raises Conflict when it has ended, NotFound."""
        return await self._stop(download_id, "cancelled", ("running", "paused"))

    async def resume(self, download_id: str, by: Principal | None) -> Download:
        """Goes on with one that is paused or failed. Raises Conflict, NotFound."""
        row = await self._row(download_id)
        if row.home != self._home:
            raise _elsewhere(row)
        if not await self._set(row, "running", ("paused", "failed")):
            raise _wrong_state(row)
        return self._value(row, self._begin(await self._row(download_id), by))

    async def _stop(self, download_id: str, status: str, allowed: tuple[str, ...]) -> Download:
        row = await self._row(download_id)
        if row.home != self._home and row.status == "running":
            raise _elsewhere(row)
        live = self._live.get(download_id)
        if live is not None and live.task is not None:
            live.task.cancel()
            await asyncio.wait([live.task])
        stopped = await self._set(row, status, allowed)
        row = await self._row(download_id)
        if not stopped:
            raise _wrong_state(row)
        return self._value(row, None)

    def _begin(self, row: DownloadRow, by: Principal | None) -> _Live:
        live = self._live[row.id] = _Live(row)
        live.task = asyncio.get_running_loop().create_task(self._work(live, by))
        return live

    async def _work(self, live: _Live, by: Principal | None) -> None:
        row = live.row
        try:
            plan = _decode(row.plan)
            async with self._slots:
                # A death between the model's row and this order's own leaves an order whose work is done.
                if not await self._hub.made_of(plan, row.created_at):
                    await self._hub.add(plan, row.accepted_by or None, live.show, by=by)
            await self._set(row, "completed", ("running",))
        except DayspringError as error:
            await self._set(row, "failed", ("running",), error)
        except Exception as error:  # whatever it was, the order must say that it failed
            log.error("a model could not be added", exc_info=error, extra={"download": row.id})
            await self._set(row, "failed", ("running",), Defect(row.id))
        finally:
            # Also when it was cancelled, by a pause or by the server's end: then its row says what it was.
            self._live.pop(row.id, None)
            live.tell()

    async def _row(self, download_id: str) -> DownloadRow:
        row = await self._db.read(lambda connection: find_download(connection, download_id))
        if row is None:
            raise NotFound("download", download_id, "See GET /v1/hub/downloads.")
        return row

    async def _set(
        self, row: DownloadRow, status: str, allowed: tuple[str, ...], error: DayspringError | None = None
    ) -> bool:
        """Whether it was in an allowed state; judged with the change, so that two who change it do not both succeed."""
        now = self._now()
        code, message = (error.code, error.message) if error else ("", "")

        def write(connection: Connection) -> bool:
            return set_download(connection, row.id, status, now, allowed=allowed, code=code, message=message)

        return await self._db.write(write)

    def _value(self, row: DownloadRow, live: _Live | None) -> Download:
        progress = live.progress if live else None
        status: State = row.status if row.status != "running" else "queued"  # type: ignore[assignment]  # of the table
        if live is not None:
            status = _STATES[progress.phase] if progress else "queued"
        return Download(
            row.id, row.model_id, row.source, status, progress.file if progress else "",
            progress.done_bytes if progress else 0, progress.total_bytes if progress else 0, row.error_code,
            row.error_message, row.created_at, row.updated_at,
        )  # fmt: skip

    def _now(self) -> int:
        return self._clock.time_ns() // 10**9


def _wrong_state(row: DownloadRow) -> Conflict:
    return Conflict(f"The download {row.id!r} is {row.status}", "See GET /v1/hub/downloads for what can be done.")


def _elsewhere(row: DownloadRow) -> Conflict:
    return Conflict(f"The download {row.id!r} belongs to another server of this database", "Ask that server.")
