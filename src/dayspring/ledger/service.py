"""The ledger's verbs: reserve before work, settle after, release on failure, recover after a crash.

What holds: no sequence of concurrent requests overdraws a budget; a reservation ends exactly once, so a released
request is never charged and a settled one never released; an outcome, its entries and its usage row are one
transaction; settling the same content again returns the first result.
What it does not do: decide a price (`pricing`, `prices`), or wait for a request to end.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, select

from dayspring.contracts.clock import Clock
from dayspring.core.errors import Defect, ReservationLost
from dayspring.core.ids import new_id
from dayspring.core.money import Rate
from dayspring.ledger import instances
from dayspring.ledger.billed import bill_once
from dayspring.ledger.journal import AccountIds, balances, post
from dayspring.ledger.requests import content_of, insert_request, settled_before
from dayspring.ledger.reservations import Reservation, hold, reservations, take, unhold
from dayspring.ledger.spending.alerts import Raised, log_raised
from dayspring.ledger.spending.charging import charge
from dayspring.ledger.values import Difference, ReserveRequest, Settled, Settlement
from dayspring.ledger.verification import find_differences
from dayspring.store.database import Database

__all__ = ["Ledger"]

_log = logging.getLogger(__name__)


class Ledger:
    """One server's face of the books. Call `start` before the first reservation."""

    def __init__(self, db: Database, clock: Clock, currency: str) -> None:
        self.currency = currency
        self._db = db
        self._clock = clock
        self._accounts = AccountIds()
        self._instance_id = ""
        self._home = ""
        self.raised: Callable[[Raised], None] | None = None
        """Told of each spend alert, once it is committed and logged."""

    @property
    def instance_id(self) -> str:
        """This server's id among those of its database; empty before `start`."""
        return self._instance_id

    async def start(self, home: str) -> int:
        """Registers this server, then lets go of what dead ones held. Returns how many requests were lost."""
        instance_id, own_ns = new_id("srv"), self._clock.time_ns()

        def add(connection: Connection) -> None:
            instances.register(connection, instance_id, home, instances.database_time_ns(connection, own_ns))

        await self._db.write(add)
        self._instance_id, self._home = instance_id, home
        return await self.recover()

    async def heartbeat(self) -> None:
        """Says that this server lives. Call it every 15 s or so."""
        instance_id, home, own_ns = self._instance_id, self._home, self._clock.time_ns()

        def beat(connection: Connection) -> bool:
            now_ns = instances.database_time_ns(connection, own_ns)
            alive = instances.beat(connection, instance_id, now_ns)
            if not alive:
                instances.register(connection, instance_id, home, now_ns)
            return alive

        if not await self._db.write(beat):
            _log.error("another server took this one for dead; what was under way then is lost")

    async def stop(self) -> None:
        """Forgets this server, if nothing is held in its name; else the next start recovers it."""
        instance_id = self._instance_id

        def forget(connection: Connection) -> None:
            held = select(reservations.c.request_id).where(reservations.c.instance_id == instance_id).limit(1)
            if connection.execute(held).first() is None:
                instances.forget_instances(connection, [instance_id])

        await self._db.write(forget)

    async def servers(self) -> int:
        """How many servers of this database live, this one among them."""
        return await self._db.read(lambda connection: instances.living(connection, self._clock.time_ns()))

    async def reserve(self, request: ReserveRequest) -> None:
        """Holds the request's bound against the budgets of key, project and organization.

        Raises InsufficientQuota with `left_nanos`, what the tightest of the three has left.
        """
        if not self._instance_id:
            raise Defect(request.request_id)
        instance_id, now_ns, currency = self._instance_id, self._clock.time_ns(), self.currency
        try:
            await self._db.write(lambda connection: hold(connection, request, instance_id, now_ns, currency))
        except asyncio.CancelledError:
            # The write is done all the same, and nobody else knows of it.
            self._db.follow(lambda connection: self._let_go(connection, request.request_id, None, now_ns))
            raise

    async def reserve_again(self, request: ReserveRequest) -> None:
        """Replaces what the request holds by another bound, in one transaction; refused, it holds what it held.

        Raises InsufficientQuota as `reserve`, ReservationLost when it holds nothing.
        """
        instance_id, now_ns, currency = self._instance_id, self._clock.time_ns(), self.currency

        def replace(connection: Connection) -> None:
            held = take(connection, request.request_id)
            if held is None:
                raise ReservationLost(request.request_id)
            unhold(connection, held)
            hold(connection, request, instance_id, now_ns, currency)

        await self._db.write(replace)

    async def settle(self, settlement: Settlement) -> Settled:
        """Books how a request ended, and charges at most what was reserved.

        What an upstream took beyond that is booked as `upstream-excess`. Raises ReservationLost when the request was
        released, recovered, or settled with other content: then nothing is charged and the answer must not be sent.
        """
        content, now_ns = content_of(settlement), self._clock.time_ns()

        def book(connection: Connection) -> _Booked:
            held = take(connection, settlement.request_id)
            if held is None:
                before = settled_before(connection, settlement.request_id)
                if before is None or before[0] != content:
                    raise ReservationLost(settlement.request_id)
                return _Booked(before[1], {}, [])
            return self._book(connection, held, settlement, content, now_ns)

        booked = await self._db.write(book)
        if booked.learned:
            self._accounts.remember(booked.learned)
        for raised in booked.raised:
            log_raised(raised)
            if self.raised is not None:
                self.raised(raised)
        return booked.settled

    async def release(self, request_id: str, failure: Settlement | None = None) -> bool:
        """Lets go of a reservation, charging nothing. True the first time, False when nothing was held any more.

        `failure` tells what is known (device, quantities, costs); its costs are booked, its price is not.
        """
        now_ns = self._clock.time_ns()

        if failure is not None and (failure.request_id != request_id or failure.status in {"completed", "cancelled"}):
            raise Defect(request_id)
        released, learned = await self._db.write(
            lambda connection: self._let_go(connection, request_id, failure, now_ns)
        )
        self._accounts.remember(learned)
        return released

    async def recover(self) -> int:
        """Releases what dead servers held, each with a usage row of status `lost`. Returns how many there were."""
        instance_id, home, own_ns = self._instance_id, self._home, self._clock.time_ns()

        def let_go(connection: Connection) -> tuple[int, dict[str, int]]:
            now_ns = instances.database_time_ns(connection, own_ns)
            dead = instances.dead_instances(connection, instance_id, home, now_ns)
            if not dead:
                return 0, {}
            query = select(reservations.c.request_id).where(reservations.c.instance_id.in_(dead))
            learned: dict[str, int] = {}
            lost = [take(connection, request_id) for request_id in connection.execute(query).scalars().all()]
            for held in lost:
                if held is not None:
                    ended = Settlement(
                        request_id=held.request_id, status="lost", started_at_ns=held.created_at_ns,
                        finished_at_ns=own_ns,
                    )  # fmt: skip
                    learned |= self._book(connection, held, ended, content_of(ended), own_ns).learned
            instances.forget_instances(connection, dead)
            return len([held for held in lost if held is not None]), learned

        count, learned = await self._db.write(let_go)
        self._accounts.remember(learned)
        return count

    async def book_idle(self, *, device: str, model: str, idle_ns: int, rate: Rate, booking_id: str) -> int:
        """Books idle device time on its own line, once for each `booking_id`. Returns its cost in nano-units.

        `rate` is per nanosecond, e.g. Rate(5_000, 1_000_000_000) for 5 000 nano-units a second.
        """
        cost, now_ns = rate.of(idle_ns), self._clock.time_ns()
        if not cost:
            return 0
        entries = ((f"idle-cost:{device}/{model}", cost), (f"device:{device}", -cost))

        def book(connection: Connection) -> dict[str, int]:
            learned: dict[str, int] = {}
            memo = f"idle {idle_ns} ns"
            post(
                connection, self._accounts, learned, request_id=booking_id, kind="idle", now_ns=now_ns, memo=memo,
                entries=entries,
            )  # fmt: skip
            return learned

        self._accounts.remember(await self._db.write(book))
        return cost

    async def balances(self) -> dict[str, int]:
        """Every account's balance in nano-units, summed from its postings."""
        return await self._db.read(balances)

    async def verify(self) -> list[Difference]:
        """Recomputes everything from the postings. Empty when the books agree with themselves."""
        return await self._db.read(find_differences)

    def _let_go(
        self, connection: Connection, request_id: str, failure: Settlement | None, now_ns: int
    ) -> tuple[bool, dict[str, int]]:
        held = take(connection, request_id)
        if held is None:
            return False, {}
        ended = failure or Settlement(
            request_id=request_id, status="failed", started_at_ns=held.created_at_ns, finished_at_ns=now_ns
        )
        return True, self._book(connection, held, ended, content_of(ended), now_ns).learned

    def _book(
        self, connection: Connection, held: Reservation, ended: Settlement, content: str, now_ns: int
    ) -> "_Booked":
        """The outcome of a reservation that `take` has just deleted."""
        learned: dict[str, int] = {}
        billable = ended.status == "completed" and ended.bill_key
        paid = bool(billable) and not bill_once(connection, ended.bill_key, held.request_id)
        settled = _charge(held, ended, paid=paid)
        raised: list[Raised] = []
        if settled.price_nanos:
            now_ns, raised = charge(connection, held.owners, held.amount_nanos, settled.price_nanos, now_ns)
        else:
            unhold(connection, held)
        entries = _entries(held, ended, settled)
        booked = not entries or post(
            connection,
            self._accounts,
            learned,
            request_id=held.request_id,
            kind="request",
            now_ns=now_ns,
            memo=ended.status,
            entries=entries,
        )
        if not booked:
            # Held and booked at once: the books are broken, and rolling back keeps them from getting worse.
            raise Defect(held.request_id)
        insert_request(connection, held, ended, settled, content)
        return _Booked(settled, learned, raised)


class _Booked(NamedTuple):
    settled: Settled
    learned: dict[str, int]
    """Accounts, for `AccountIds.remember` after the commit."""
    raised: list[Raised]
    """Spend alerts, to be told after the commit."""


def _charge(held: Reservation, ended: Settlement, *, paid: bool) -> Settled:
    """What is booked; `paid`: an earlier request was charged for the same work."""
    price = ended.price_nanos if ended.status in {"completed", "cancelled"} and not paid else 0
    charged = min(price, held.amount_nanos)
    if charged < price and not ended.upstream:
        _log.error("request %s was priced over its reservation by our own engine", held.request_id)
    return Settled(
        held.request_id, ended.status, charged, ended.compute_cost_nanos, ended.upstream_cost_nanos,
        price - charged if ended.upstream else 0,
    )  # fmt: skip


def _entries(held: Reservation, ended: Settlement, settled: Settled) -> list[tuple[str, int]]:
    """Account names and signed nano-units; nothing for what is zero."""
    entries: list[tuple[str, int]] = []
    model = held.model
    if settled.price_nanos:
        entries.append((f"customer:{held.project_id}/{held.key_id}", settled.price_nanos))
    if settled.excess_nanos:
        entries.append(("upstream-excess", settled.excess_nanos))
    if settled.price_nanos + settled.excess_nanos:
        entries.append((f"revenue:{model}", -settled.price_nanos - settled.excess_nanos))
    if settled.compute_cost_nanos:
        entries.append((f"compute-cost:{ended.device}/{model}", settled.compute_cost_nanos))
        entries.append((f"device:{ended.device}", -settled.compute_cost_nanos))
    if settled.upstream_cost_nanos:
        entries.append((f"upstream-cost:{ended.upstream}/{model}", settled.upstream_cost_nanos))
        entries.append((f"upstream:{ended.upstream}", -settled.upstream_cost_nanos))
    return entries
