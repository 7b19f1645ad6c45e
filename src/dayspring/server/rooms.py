"""The rooms of a running server, put together over an opened house, and their life.

Start: recover what an earlier death left, make the first key, then serve; the default models are fetched beside that,
and /readyz tells. Stop: streams are settled first, then the workers end, then the database closes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from dayspring.accounts.administration.holding import AccountRecords
from dayspring.accounts.administration.privacy import Privacy
from dayspring.accounts.limits import Limiter
from dayspring.accounts.webhooks.delivery import Deliveries
from dayspring.batches.answering import Answering
from dayspring.batches.holding import BatchHolder
from dayspring.batches.service import Batches
from dayspring.batches.steps import BatchWork
from dayspring.chat.kept.service import KeptCompletions
from dayspring.chat.messages.service import MessagesService
from dayspring.chat.rerank.service import RerankService
from dayspring.chat.responses.holder import StoredResponses
from dayspring.chat.responses.service import ResponsesService
from dayspring.chat.service import ChatService
from dayspring.compute.service import Compute
from dayspring.contracts.holdings import Holder
from dayspring.dispatch.service import Dispatch
from dayspring.files.holder import FilesHolder
from dayspring.hub.downloads import Downloads
from dayspring.jobs.holding import JobHolder
from dayspring.jobs.service import Jobs
from dayspring.ledger.holding import RequestAccounts
from dayspring.net.fetcher import Fetcher
from dayspring.server.administration.oidc import oidc_of
from dayspring.server.background import COLLECT_S, DELIVER_S, HEARTBEAT_S, Background
from dayspring.server.house import House, lock_home
from dayspring.server.metrics import Metrics
from dayspring.server.quotas import admission
from dayspring.server.readiness import Readiness
from dayspring.server.sweeping import RETAIN_S, sweep

__all__ = ["Rooms"]


class Rooms:
    """What routes find in `app.state`, and what runs beside them."""

    def __init__(self, house: House) -> None:
        self.house = house
        settings, db, clock = house.settings, house.db, house.clock
        self.readiness = Readiness()
        self.compute = Compute(settings, clock)
        self.metrics = Metrics(self.compute)
        self.limiter = Limiter(clock)
        self.fetcher = Fetcher(stall_s=15)
        self.deliveries = Deliveries(db, clock, self.fetcher)
        self.downloads = Downloads(house.hub, db, clock, str(settings.home))
        house.ledger.raised = self.metrics.alerted
        self.dispatch = Dispatch(
            house.hub, house.prices, house.ledger, self.compute, settings, clock, self.metrics.settled, self.limiter
        )
        self.holders: list[Holder] = []
        """Every room that keeps something for people. The accounts come first, for they are erased last."""
        room = admission(house.quota, self.holders)
        self.responses = ResponsesService(self.dispatch, db, clock, room)
        self.kept = KeptCompletions(db, clock)
        self.chat = ChatService(self.dispatch, clock, self.kept.keep, room)
        self.jobs = Jobs(settings, db, clock)
        answering = Answering(self.chat, self.responses)
        work = BatchWork(self.jobs, db, house.files, self.dispatch, answering, settings, clock)
        self.batches = Batches(work, db, house.files, clock)
        self.holders += [AccountRecords(db), RequestAccounts(db), FilesHolder(house.files, db, house.blobs)]
        self.holders += [StoredResponses(db), BatchHolder(work, db), JobHolder(db)]

    def offered(self) -> dict[str, Any]:
        """What the routes use, by its name in `app.state`."""
        house = self.house
        return {
            "settings": house.settings,
            "house": house,
            "accounts": house.accounts,
            "hub": house.hub,
            "files": house.files,
            "uploads": house.uploads,
            "reports": house.reports,
            "holders": self.holders,
            "oidc": oidc_of(house, self.fetcher),
            "privacy": Privacy(house.db, house.clock, house.accounts.authentication, self.holders),
            "compute": self.compute,
            "metrics": self.metrics,
            "readiness": self.readiness,
            "downloads": self.downloads,
            "limiter": self.limiter,
            "deliveries": self.deliveries,
            "chat": self.chat,
            "jobs": self.jobs,
            "batches": self.batches,
            "responses": self.responses,
            "kept": self.kept,
            "messages": MessagesService(self.dispatch),
            "rerank": RerankService(self.dispatch),
        }

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """From the first recovery to the closed database; it closes the house."""
        house = self.house
        async with AsyncExitStack() as stack:
            # Undone from the last to the first, each whatever becomes of the others.
            stack.enter_context(lock_home(house.settings.home))
            stack.push_async_callback(asyncio.to_thread, house.close)
            background = self._background()
            for ending in (
                house.hub.close, house.files.close, self.fetcher.close, house.ledger.stop, self.compute.close,
                self.dispatch.pictures.close, background.stop, self.dispatch.drain, self.responses.close,
            ):  # fmt: skip
                stack.push_async_callback(ending)
            await background.start()
            await self.batches.clear()
            stack.push_async_callback(self.jobs.close)
            await self.jobs.open()
            stack.push_async_callback(self.downloads.stop)
            await self.downloads.start()
            yield

    def _background(self) -> Background:
        background = Background(self.house, self.compute, self.dispatch, self.readiness, self.responses)
        background.also(RETAIN_S, lambda: sweep(self.house, self.holders, self.compute.status().workers))
        background.also(DELIVER_S, self.deliveries.send_due)
        background.also(COLLECT_S, self.deliveries.forget_old)
        if self.house.db.dialect == "postgresql":
            background.also(HEARTBEAT_S, self._share_limits)
        return background

    async def _share_limits(self) -> None:
        """Each of several servers enforces its part of every limit on rate."""
        self.limiter.share(await self.house.ledger.servers())
