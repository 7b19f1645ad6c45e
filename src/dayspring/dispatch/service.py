"""The one path of a metered request: authorise, reserve, place, run, settle.

What holds, whatever happens to the client, the worker or this task: a call that reserved money settles or releases it
exactly once; a stream cut short by its client is settled for what was produced; a request that failed costs the client
nothing and its measured cost is still booked. A worker that dies before anything was sent is tried once more, then the
other models that the name leads to, each at its own price, within a reservation that covers the dearest. What the
database cannot take when a call ends is kept and booked as soon as it can.
What it does not do: HTTP, and the wording of answers (the rooms above), or arithmetic on money (`ledger.pricing`).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from dayspring.accounts.limits import Limiter
from dayspring.accounts.principals import Principal, Scope
from dayspring.compute.devices import NETWORK
from dayspring.compute.service import Compute
from dayspring.compute.status import Idle
from dayspring.contracts.clock import Clock
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import Task
from dayspring.core.errors import (
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ReservationLost,
    Unavailable,
)
from dayspring.core.ids import new_id
from dayspring.core.money import Rate
from dayspring.core.settings import Settings
from dayspring.dispatch.call import Call
from dayspring.dispatch.fallback import able
from dayspring.dispatch.lanes import Lanes
from dayspring.dispatch.pictures import Pictures
from dayspring.dispatch.values import Order, Receipt
from dayspring.hub.service import Hub
from dayspring.ledger.prices import PriceBook
from dayspring.ledger.service import Ledger
from dayspring.ledger.values import Settlement

__all__ = ["Call", "Dispatch"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Dispatch:
    """Holds what every call needs. `settled` is told of each receipt, for the metrics."""

    def __init__(
        self,
        hub: Hub,
        prices: PriceBook,
        ledger: Ledger,
        compute: Compute,
        settings: Settings,
        clock: Clock,
        settled: Callable[[Receipt], None],
        limiter: Limiter | None = None,
    ) -> None:
        self.hub = hub
        self.prices = prices
        self.ledger = ledger
        self.compute = compute
        self.settings = settings
        self.clock = clock
        self.settled = settled
        self.limiter = limiter or Limiter(clock)
        self.lanes = Lanes(settings.slots)
        self.pictures = Pictures()
        self._closing: set[asyncio.Task[Any]] = set()
        self._unbooked: dict[str, Settlement] = {}
        self._idle: dict[str, Idle] = {}
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def model(self, principal: Principal, model_id: str, ability: Ability, *others: Ability) -> Model:
        """The model, if this key may ask it for this or one of the others.

        Raises NotFound, PermissionDenied, InvalidRequest.
        """
        if not principal.may(Scope.INFERENCE):
            raise PermissionDenied("This key may not call models", "Use a key with the scope 'inference'.")
        if not principal.project_id:
            raise PermissionDenied("No project is open to this session", "Name one in the header OpenAI-Project.")
        if not principal.may_use(model_id):
            raise NotFound("model", model_id, "GET /v1/models lists those this key may use.", param="model")
        model = await self.hub.get(model_id)
        if not {ability, *others} & set(model.abilities):
            can = ", ".join(model.abilities)
            raise InvalidRequest(
                f"{model_id!r} cannot do {ability.value}; it can do {can}. Choose another model.", param="model"
            )
        return model

    def others(self, order: Order, task: Task) -> list[tuple[Model, Task]]:
        """What else the order's name leads to that can do its task, in order."""
        named = self.hub.fallbacks(order.name) if order.name else ()
        return able(order.model, task, named, order.task_for) if named else []

    def open(self, order: Order) -> Call:
        """The call of an order: an async context manager that iterates over events and settles."""
        return Call(self, order)

    def device_cost_nanos(self, device: str) -> int:
        """Cost of one second of a device, nano-units."""
        if device in ("", NETWORK.id):
            return 0
        return self.settings.device_cost_nanos.get(device, self.settings.device_second_cost_nanos)

    async def book_idle(self) -> None:
        """Books the idle time since the last booking, on its own line. What cannot be booked now is kept."""
        for idle in self.compute.take_idle():
            if idle.ns > 0:
                self._idle[new_id("idle")] = idle
        for booking_id, idle in list(self._idle.items()):
            await self.ledger.book_idle(
                device=idle.device,
                model=idle.model,
                idle_ns=idle.ns,
                rate=Rate(self.device_cost_nanos(idle.device), 10**9),
                booking_id=booking_id,
            )
            self._idle.pop(booking_id, None)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs `work` to its end even if the task that waits for it is cancelled; `drain` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._closing.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Unavailable):
            log.warning("an account waits to be closed until the database can be written")
        elif error is not None:
            log.error("an account could not be closed", exc_info=error)

    async def book_later(self, settlement: Settlement) -> None:
        """Ends a reservation whose booking failed: tries once now, and again with each `book_rest`. Never raises."""
        self._unbooked[settlement.request_id] = settlement
        with suppress(Exception):  # logged or of the tree; either way it is kept
            await self._book_rest(settlement)

    async def book_rest(self) -> None:
        """Books what could not be booked before. Raises what the database raises while it cannot be written."""
        for settlement in list(self._unbooked.values()):
            await self._book_rest(settlement)

    async def _book_rest(self, settlement: Settlement) -> None:
        request_id = settlement.request_id
        try:
            if settlement.status == "cancelled":
                await self.ledger.settle(settlement)
            else:
                await self.ledger.release(request_id, settlement)
        except ReservationLost:
            log.warning("a request had been settled or released before", extra={"request_id": request_id})
        except Unavailable:
            raise
        except Exception as error:  # what it says cannot be booked; then at least nothing stays held
            log.error("the account of a request was lost", exc_info=error, extra={"request_id": request_id})
            self._unbooked[request_id] = msgspec.structs.replace(
                settlement, status="failed", quantities={}, compute_cost_nanos=0, upstream_cost_nanos=0, metadata=None
            )
            await self.ledger.release(request_id)
        self._unbooked.pop(request_id, None)

    def entered(self) -> None:
        """A call begins; `left` ends it. `drain` waits for both."""
        self._calls += 1
        self._quiet.clear()

    def left(self) -> None:
        self._calls -= 1
        if not self._calls:
            self._quiet.set()

    async def drain(self, limit_s: float = 30) -> None:
        """Waits until every call has ended and is settled or released, but no longer than `limit_s`."""
        try:
            async with asyncio.timeout(limit_s):
                await self._quiet.wait()
                while self._closing:
                    await asyncio.wait(self._closing)
        except TimeoutError:
            log.error("requests did not end in time; the next start releases what they hold")
