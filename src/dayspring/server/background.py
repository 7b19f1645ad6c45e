"""What runs beside the requests: recovery, the server's heartbeat, idle time into the ledger, the default models."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from dayspring.chat.responses.service import ResponsesService
from dayspring.compute.service import Compute
from dayspring.core.errors import DayspringError
from dayspring.dispatch.service import Dispatch
from dayspring.hub.plan import Progress
from dayspring.server.house import House
from dayspring.server.readiness import Readiness

__all__ = ["COLLECT_S", "DELIVER_S", "HEARTBEAT_S", "Background"]

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
RECOVER_S = 60.0
COLLECT_S = 6 * 3600.0
SWEEP_S = 300.0
"""How often what is over is looked for: files and uploads."""
WATCH_S = 2.0
"""How often what another server was asked to cancel is looked for."""
IDLE_S = 60.0
"""How often idle time is booked; what a sudden death can leave unbooked."""
BOOK_S = 5.0
"""How often that is tried which the database could not take when a request ended."""

DELIVER_S = 5.0
"""How often the outbox of webhooks is looked at."""

_PACK = "default models"


class Background:
    def __init__(
        self, house: House, compute: Compute, dispatch: Dispatch, readiness: Readiness, responses: ResponsesService
    ) -> None:
        self._responses = responses
        self._house = house
        self._compute = compute
        self._dispatch = dispatch
        self._readiness = readiness
        self._more: list[tuple[float, Callable[[], Coroutine[Any, Any, Any]]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._told: set[tuple[str, str, int]] = set()

    def also(self, seconds: float, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Has something more done so often, from the start on."""
        self._more.append((seconds, work))

    async def start(self) -> None:
        """Everything that must be true before the first request, then the tasks."""
        made = await self._house.first_start()
        if made is not None:
            log.info("first start: the administrator's key is in admin.key in the data folder")
        recovered = await self._house.ledger.start(str(self._house.settings.home))
        if recovered:
            log.warning("released reservations that an earlier end left", extra={"count": recovered})
        if ended := await self._responses.recover():
            log.warning("ended responses that an earlier end left unfinished", extra={"count": ended})
        if self._house.settings.default_pack:
            self._readiness.begin(_PACK, "checking")
            self._run(self._fetch_default_pack())
        self._run(self._fetch_restored())
        self._run(self._every(HEARTBEAT_S, self._house.ledger.heartbeat))
        self._run(self._every(IDLE_S, self._dispatch.book_idle))
        self._run(self._every(BOOK_S, self._dispatch.book_rest))
        self._run(self._every(COLLECT_S, self._house.hub.collect))
        self._run(self._every(SWEEP_S, self._house.uploads.sweep))
        self._run(self._every(SWEEP_S, self._house.files.expire))
        for seconds, work in self._more:
            self._run(self._every(seconds, work))
        if self._house.db.dialect == "postgresql":  # other servers may die while this one lives
            self._run(self._every(RECOVER_S, self._house.ledger.recover))
            self._run(self._every(RECOVER_S, self._responses.recover))
            self._run(self._every(WATCH_S, self._responses.watch))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # each has logged its own
        await self._dispatch.book_rest()
        await self._dispatch.book_idle()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except DayspringError as error:
                log.warning("a background step failed and is tried again", extra={"reason": error.message})
            except Exception as error:  # a server without its heartbeat is taken for dead, so it goes on
                log.error("a background step failed and is tried again", exc_info=error)

    async def _fetch_default_pack(self) -> None:
        try:
            await self._house.hub.ensure_default_pack(self._fetching)
        except DayspringError as error:
            log.warning("the default models could not be added", extra={"reason": error.message})
            self._readiness.end(_PACK, f"The default models could not be added: {error.message}")
        except Exception as error:  # the server is ready for what is here, whatever went wrong
            log.error("the default models could not be added", exc_info=error)
            self._readiness.end(_PACK, "The default models could not be added; the log says why.")
        else:
            self._readiness.end(_PACK)
            log.info("the default models are here")

    async def _fetch_restored(self) -> None:
        """What a restore brought without its files. Nothing, and quickly, as a rule."""
        try:
            if fetched := await self._house.hub.fetch_missing():
                log.info("restored models are here again", extra={"count": len(fetched)})
        except DayspringError as error:
            log.warning("a restored model's files could not be fetched", extra={"reason": error.message})
        except Exception as error:  # the server is ready for what is here
            log.error("a restored model's files could not be fetched", exc_info=error)

    def _fetching(self, progress: Progress) -> None:
        """Tells /readyz each step, and the log when another tenth has come."""
        detail = f"{progress.phase} {progress.done_bytes >> 20} of {progress.total_bytes >> 20} MiB"
        self._readiness.begin(_PACK, f"{progress.model}: {detail}")
        tenth = progress.model, progress.phase, 10 * progress.done_bytes // max(progress.total_bytes, 1)
        if tenth not in self._told:
            self._told.add(tenth)
            log.info("fetching the default models", extra={"model": progress.model, "step": detail})
