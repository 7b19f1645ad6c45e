"""One metered request, from its reservation to its receipt."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, aclosing, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from dayspring.contracts.events import Event, Usage
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import ChatTask, CompletionTask, Task
from dayspring.core.errors import DayspringError, Defect, InsufficientQuota, PromptOverLimit, TimedOut, WorkerDied
from dayspring.core.money import Unit
from dayspring.dispatch import bounds
from dayspring.dispatch.fallback import Way, passes
from dayspring.dispatch.produced import Produced
from dayspring.dispatch.values import Order, Receipt
from dayspring.ledger import pricing
from dayspring.ledger.prices import PriceVersion
from dayspring.ledger.values import ReserveRequest, Settlement, Status

if TYPE_CHECKING:
    from dayspring.dispatch.service import Dispatch

__all__ = ["Call"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Call:
    """`async with dispatch.open(order) as call:` reserves; iterate over its events; `await call.settle()` ends it.

    Leaving without settle settles what was produced when the client left, and charges nothing when it failed.
    """

    def __init__(self, dispatch: "Dispatch", order: Order) -> None:
        self._dispatch = dispatch
        self._order = order
        self._model = order.model
        self._task = _scoped(order, order.task)
        self._rest: list[Way] = []
        """What is left to try, in order, when the model is not available."""
        self._clock = dispatch.clock
        self._started_ns = self._clock.time_ns()
        self._limit_s = dispatch.settings.request_timeout_s
        self._deadline_s = 0.0
        self._events: AsyncGenerator[Event, None] | None = None
        self._made = Produced()
        self._busy_ns = 0
        self._cost_nanos = 0
        """Device time of every attempt, and what it cost; the client pays for the last attempt alone."""
        self._device = ""
        self._closed = False
        self._turn = AsyncExitStack()
        """The place in the lane, and what the limits count while the call runs."""

    @property
    def model(self) -> Model:
        """The model that answers; of an alias with fallbacks, certain once the first event has come."""
        return self._model

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens that were thought, not said; part of the usage's output tokens."""
        return self._made.reasoning_tokens

    @property
    def used(self) -> Usage:
        """What was used so far, or in all once it has ended."""
        return self._made.used()

    async def __aenter__(self) -> Self:
        self._dispatch.entered()
        try:
            if self._order.yields:
                await self._turn.enter_async_context(self._dispatch.lanes.turn(self._order.ticket.lane))
            self._deadline_s = asyncio.get_running_loop().time() + self._limit_s
            self._enter_limits()
            self._price = await self._charged(self._model)
            self._task = await self._seen(self._task, self._model)
            for model, task in self._dispatch.others(self._order, self._task):
                self._rest.append(Way(model, _scoped(self._order, task), await self._charged(model)))
            await self._reserve_first()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        cancelled: asyncio.CancelledError | None = None
        try:
            if self._events is not None:
                try:
                    await self._events.aclose()
                except asyncio.CancelledError as late:
                    cancelled = late
                except Exception as fault:  # however the work stopped, its money is not left held
                    log.error("the work of a request did not stop cleanly", exc_info=fault)
            if not self._closed:
                left = error is None or isinstance(error, asyncio.CancelledError | GeneratorExit)
                left = left and not self._order.ticket.bill_key  # work that is done again is paid when it is done
                # What could not be booked is kept by dispatch, and logged; `error` says more to the client.
                with suppress(Exception):
                    await self._close("cancelled" if left else "failed")
        finally:
            await self._leave()
        if cancelled is not None and not isinstance(error, asyncio.CancelledError):
            raise cancelled

    def __aiter__(self) -> AsyncGenerator[Event, None]:
        self._events = self._run()
        return self._events

    async def settle(self) -> Receipt:
        """Books the finished request. Returns when that is durable. Raises WorkerDied when it has no end."""
        if self._made.usage is None:
            raise WorkerDied(model=self._model.id)
        return await self._close("completed")

    async def _seen(self, task: Task, model: Model) -> Task:
        """The task with its pictures here. A task read again for a fallback has them as the caller sent them."""
        if not isinstance(task, ChatTask):
            return task
        return await self._in_time(self._dispatch.pictures.resolved(task, model))

    def _enter_limits(self) -> None:
        """Counts the call against the rates of its key, project and organization. Batch work has none."""
        order = self._order
        if order.principal.limits and order.ticket.lane == "live":
            admission = self._dispatch.limiter.enter(order.principal, bounds.estimate(self._task, self._model))
            self._turn.callback(lambda: admission.leave(self._taken_tokens()))

    def _taken_tokens(self) -> int:
        used = self._made.used()
        return used.input_tokens + used.output_tokens

    async def _leave(self) -> None:
        self._dispatch.left()
        await self._turn.aclose()

    async def _charged(self, model: Model) -> PriceVersion:
        batch = self._order.ticket.lane == "batch"
        return await self._dispatch.prices.charged(model.id, batch=batch, base=model.base)

    async def _reserve_first(self) -> None:
        """Reserves for the dearest of all that may be tried; a fallback that the budget does not cover is left out."""
        try:
            try:
                await self._reserve(bounds.input_bound(self._task, self._model))
            except InsufficientQuota as refusal:
                if refusal.left_nanos is None or not self._rest:
                    raise
                left = refusal.left_nanos
                self._rest = [way for way in self._rest if way.bound_nanos(self._limit_s) <= left]
                await self._reserve(bounds.input_bound(self._task, self._model))
        except InsufficientQuota as refusal:
            if refusal.left_nanos is None or self._least_nanos() > refusal.left_nanos:
                raise
            # The bound is up to four times the truth for English text: count before turning anyone away.
            counting = self._dispatch.compute.count_tokens(self._model, self._task)
            self._rest = []  # nobody counts for them
            await self._reserve(await self._in_time(counting), exact=True)

    async def _try_next(self, failure: DayspringError) -> bool:
        """Turns to the next model, if there is one and time for it. What is held then is for that one and the rest."""
        if not self._rest or not passes(failure) or asyncio.get_running_loop().time() >= self._deadline_s:
            return False
        way = self._rest.pop(0)
        log.warning(
            "a model is not available and the next is tried",
            extra={
                "request_id": self._order.request_id,
                "model": self._model.id,
                "next": way.model.id,
                "reason": failure.message,
            },
        )
        self._model, self._task, self._price = way.model, await self._seen(way.task, way.model), way.price
        await self._reserve(bounds.input_bound(self._task, self._model), again=True)
        return True

    async def _reserve(self, input_tokens: int, *, exact: bool = False, again: bool = False) -> None:
        order, rates = self._order, self._price.rates
        most = bounds.output_bound(self._task, self._model, input_tokens=input_tokens if exact else None)
        quantities = bounds.quantities(input_tokens, most, timeout_s=self._limit_s)
        request = ReserveRequest(
            order.request_id,
            order.principal,
            self._model.id,
            type(self._task).__struct_config__.tag,  # type: ignore[arg-type]  # every task has a text tag
            max(pricing.bound(rates, quantities), *(way.bound_nanos(self._limit_s) for way in self._rest), 0),
            self._price.id,
        )
        ledger = self._dispatch.ledger
        try:
            await (ledger.reserve_again(request) if again else ledger.reserve(request))
        except InsufficientQuota as refusal:
            if not exact:
                raise
            raise self._with_maximum(refusal, quantities, most) from None
        self._task = msgspec.structs.replace(self._task, prompt_limit=input_tokens)

    def _least_nanos(self) -> int:
        """What this request costs at least, whatever its prompt comes to."""
        output = min(bounds.choices(self._task), bounds.output_bound(self._task, self._model))
        fewest = bounds.quantities(1, output, timeout_s=self._limit_s)
        return pricing.bound(self._price.rates, fewest)

    def _with_maximum(self, refusal: InsufficientQuota, quantities: dict[Unit, int], most: int) -> InsufficientQuota:
        """The refusal, with the maximum that would fit where one does."""
        choices = bounds.choices(self._task)
        if refusal.left_nanos is None or not most:
            return refusal
        fits = pricing.largest_output(self._price.rates, quantities, refusal.left_nanos, most)
        if not fits or fits < choices:
            return refusal
        field = "max_tokens" if isinstance(self._task, CompletionTask) else "max_completion_tokens"
        return refusal.with_remedy(f"Send {field} of at most {fits // choices}, or have the budget raised.")

    async def _run(self) -> AsyncGenerator[Event, None]:
        """The events, Started and Usage apart; one more try where nothing was sent, then the models that are left.

        Nobody reads a whole answer before its end, so its events are held back until then.
        """
        streams = isinstance(self._task, ChatTask | CompletionTask) and self._task.stream
        sent = died = recounted = False
        while True:
            self._made = Produced()
            held: list[Event] = []
            try:
                async with aclosing(self._attempt()) as events:
                    async for event in events:
                        if streams:
                            sent = True
                            yield event
                        else:
                            held.append(event)
                break
            except PromptOverLimit as over:
                if sent or recounted:
                    raise Defect(self._order.request_id) from over
                recounted = True
                await self._reserve(over.input_tokens, exact=True, again=True)
            except DayspringError as failure:
                if not sent and not died and isinstance(failure, WorkerDied):
                    died = True
                elif not sent and await self._try_next(failure):
                    died = recounted = False
                else:
                    raise
        for event in held:
            yield event

    async def _attempt(self) -> AsyncGenerator[Event, None]:
        run = None
        made = self._made
        try:
            async with AsyncExitStack() as stack:
                entering = stack.enter_async_context(self._dispatch.compute.run(self._model, self._task))
                run = await self._in_time(entering)
                events = aiter(run)
                while (event := await self._in_time(anext(events, None))) is not None:
                    if made.count(event):
                        if made.first_ns is None:
                            made.first_ns = self._clock.time_ns()
                        yield event
        finally:
            if run is not None:
                made.busy_ns, self._device = run.busy_ns, run.device
                self._busy_ns += run.busy_ns
                self._cost_nanos += -(-run.busy_ns * self._dispatch.device_cost_nanos(run.device) // 10**9)

    async def _in_time(self, work: Awaitable[T]) -> T:
        """The result of `work`. Raises TimedOut when the request's whole time is over first."""
        try:
            async with asyncio.timeout_at(self._deadline_s):
                return await work
        except TimeoutError as error:
            if isinstance(error, DayspringError):
                raise
            raise TimedOut("The request", limit_s=self._limit_s, setting="DAYSPRING_REQUEST_TIMEOUT_S") from None

    async def _close(self, status: Status) -> Receipt:
        """Ends the reservation, once; goes on to its end if the waiting task is cancelled."""
        self._closed = True
        return await self._dispatch.finish(self._end(status))

    async def _end(self, status: Status) -> Receipt:
        bill: pricing.Rates = {}
        try:
            bill = await self._bill()
            receipt = await self._book(self._settlement(status, bill))
        except Exception:
            # The client hears that it failed, so it is not charged; one who left is, when the database answers again.
            await self._dispatch.book_later(self._settlement("failed" if status == "completed" else status, bill))
            raise
        self._dispatch.settled(receipt)
        return receipt

    async def _bill(self) -> pricing.Rates:
        """What the upstream that answered takes; nothing where none did."""
        target = self._made.used().upstream
        if not target:
            return {}
        return (await self._dispatch.prices.current(self._model.id, kind="upstream", target=target)).rates

    def _settlement(self, status: Status, bill: pricing.Rates) -> Settlement:
        order, usage = self._order, self._made.used()
        cached = min(usage.cached_tokens, usage.input_tokens)
        quantities = {
            Unit.INPUT_TOKEN: usage.input_tokens - cached,
            Unit.CACHED_TOKEN: cached,
            Unit.OUTPUT_TOKEN: usage.output_tokens,
            Unit.DEVICE_SECOND: self._made.busy_ns,
        }
        free = status == "failed" or self._made.nothing
        return Settlement(
            request_id=order.request_id,
            status=status,
            started_at_ns=self._started_ns,
            finished_at_ns=self._clock.time_ns(),
            first_token_ns=self._made.first_ns,
            engine=self._model.engine,
            device=self._device,
            busy_ns=self._busy_ns,
            quantities=quantities,
            price_nanos=0 if free else pricing.total(pricing.price(self._price.rates, quantities)),
            compute_cost_nanos=self._cost_nanos,
            upstream=usage.upstream,
            upstream_cost_nanos=pricing.total(pricing.price(bill, quantities)),
            metadata=order.metadata or None,
            bill_key=order.ticket.bill_key,
        )

    async def _book(self, settlement: Settlement) -> Receipt:
        order, first_ns = self._order, self._made.first_ns
        charged = excess = 0
        if settlement.status == "failed":
            await self._dispatch.ledger.release(order.request_id, settlement)
        else:
            settled = await self._dispatch.ledger.settle(settlement)
            charged, excess = settled.price_nanos, settled.excess_nanos
        return Receipt(
            order.request_id,
            self._model.id,
            settlement.status,
            self._made.used(),
            self._device,
            self._busy_ns,
            charged,
            settlement.compute_cost_nanos,
            settlement.upstream_cost_nanos,
            excess,
            None if first_ns is None else (first_ns - self._started_ns) / 1e9,
        )


def _scoped(order: Order, task: Task) -> Task:
    """The task, which finds the prompt prefixes of its own project only: how long a prompt takes tells who sent it."""
    if isinstance(task, ChatTask | CompletionTask):
        return msgspec.structs.replace(task, cache_scope=order.principal.project_id)
    return task
