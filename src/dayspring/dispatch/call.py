"""One metered request, from its reservation to its receipt."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from dayspring.contracts.events import Event, Started, TextDelta, ToolCallDelta, Usage
from dayspring.contracts.tasks import EmbeddingTask
from dayspring.core.errors import DayspringError, InsufficientQuota, PromptOverLimit, TimedOut, WorkerDied
from dayspring.core.money import Unit
from dayspring.dispatch import bounds
from dayspring.dispatch.values import Order, Receipt
from dayspring.ledger import pricing
from dayspring.ledger.values import ReserveRequest, Settlement, Status

if TYPE_CHECKING:
    from dayspring.dispatch.service import Dispatch

__all__ = ["Call"]


class Call:
    """`async with dispatch.open(order) as call:` reserves; iterate over its events; `await call.settle()` ends it.

    Leaving without settle settles what was produced when the client left, and charges nothing when it failed.
    """

    def __init__(self, dispatch: "Dispatch", order: Order) -> None:
        self._dispatch = dispatch
        self._order = order
        self._task = order.task
        self._clock = dispatch.clock
        self._started_ns = self._clock.time_ns()
        self._first_ns: int | None = None
        self._events: AsyncGenerator[Event, None] | None = None
        self._usage: Usage | None = None
        self._started: Started | None = None
        self._output_tokens = 0
        self._busy_ns = 0
        self._device = ""
        self._closed = False
        self.reasoning_tokens = 0
        """Output tokens that were thought, not said; part of the usage's output tokens."""

    async def __aenter__(self) -> Self:
        self._price = await self._dispatch.prices.current(self._order.model.id)
        limit = bounds.input_bound(self._task, self._order.model)
        try:
            await self._reserve(limit)
        except InsufficientQuota:
            # The bound is up to four times the truth for English text: count before turning anyone away.
            exact = await self._dispatch.compute.count_tokens(self._order.model, self._task)
            await self._reserve(exact, exact=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._events is not None:
            with suppress(asyncio.CancelledError):
                await self._events.aclose()
        if self._closed:
            return
        left = error is None or isinstance(error, asyncio.CancelledError | GeneratorExit)
        await self._close("cancelled" if left else "failed")

    def __aiter__(self) -> AsyncGenerator[Event, None]:
        self._events = self._run()
        return self._events

    async def settle(self) -> Receipt:
        """Books the finished request. Returns when that is durable. Raises WorkerDied when it has no end."""
        if self._usage is None:
            raise WorkerDied(model=self._order.model.id)
        return await self._close("completed")

    async def _reserve(self, input_tokens: int, *, exact: bool = False, again: bool = False) -> None:
        order, rates = self._order, self._price.rates
        most = bounds.output_bound(self._task, order.model, input_tokens=input_tokens if exact else None)
        quantities = bounds.quantities(input_tokens, most, timeout_s=self._dispatch.settings.request_timeout_s)
        request = ReserveRequest(
            order.request_id,
            order.principal,
            order.model.id,
            type(self._task).__struct_config__.tag,  # type: ignore[arg-type]  # every task has a text tag
            pricing.bound(rates, quantities),
            self._price.id,
        )
        ledger = self._dispatch.ledger
        try:
            await (ledger.reserve_again(request) if again else ledger.reserve(request))
        except InsufficientQuota as refusal:
            if not exact:
                raise
            self._refuse(refusal, quantities, most)
        self._task = msgspec.structs.replace(self._task, prompt_limit=input_tokens)

    def _refuse(self, refusal: InsufficientQuota, quantities: dict[Unit, int], most: int) -> None:
        """Raises the refusal, with the maximum that would fit."""
        if isinstance(self._task, EmbeddingTask) or refusal.left_nanos is None or not most:
            raise refusal
        fits = pricing.largest_output(self._price.rates, quantities, refusal.left_nanos, most)
        choices = max(1, most // self._task.sampling.max_tokens) if self._task.sampling.max_tokens else self._task.n
        if not fits or fits < choices:
            raise refusal
        raise refusal.with_remedy(
            f"Send max_completion_tokens of at most {fits // choices}, or have the budget raised."
        )

    async def _run(self) -> AsyncGenerator[Event, None]:
        """The events, Started and Usage apart; one more try where nothing was sent."""
        tries = 2
        while True:
            tries -= 1
            try:
                async with aclosing(self._attempt()) as events:
                    async for event in events:
                        yield event
                break
            except WorkerDied:
                if not tries or self._first_ns is not None:
                    raise
            except PromptOverLimit as over:
                if not tries or self._first_ns is not None:
                    raise
                await self._reserve(over.input_tokens, exact=True, again=True)

    async def _attempt(self) -> AsyncGenerator[Event, None]:
        limit_s = self._dispatch.settings.request_timeout_s
        deadline = asyncio.get_running_loop().time() + limit_s
        run = None
        try:
            async with self._dispatch.compute.run(self._order.model, self._task) as run:
                events = aiter(run)
                while True:
                    try:
                        async with asyncio.timeout_at(deadline):
                            event = await anext(events, None)
                    except TimeoutError as error:
                        if isinstance(error, DayspringError):
                            raise
                        raise TimedOut("The request", limit_s=limit_s, setting="DAYSPRING_REQUEST_TIMEOUT_S") from None
                    if event is None:
                        return
                    if self._counted(event):
                        yield event
        finally:
            if run is not None:
                self._busy_ns += run.busy_ns
                self._device = run.device

    def _counted(self, event: Event) -> bool:
        """Counts the event; whether it is for the client."""
        if isinstance(event, TextDelta | ToolCallDelta):
            self._output_tokens += event.tokens
            if isinstance(event, TextDelta) and event.kind == "reasoning":
                self.reasoning_tokens += event.tokens
        elif isinstance(event, Usage):
            self._usage = event
            return False
        elif isinstance(event, Started):
            self._started = event
            return False
        if self._first_ns is None:
            self._first_ns = self._clock.time_ns()
        return True

    def _used(self) -> Usage:
        """What was used: the engine's own count, or for a stream cut short what had come."""
        if self._usage is not None:
            return self._usage
        started = self._started or Started()
        return Usage(started.input_tokens, self._output_tokens, started.cached_tokens)

    async def _close(self, status: Status) -> Receipt:
        self._closed = True
        try:
            return await self._dispatch.finish(self._settle(status))
        except DayspringError:
            self._closed = False  # leaving the block releases what is still held
            raise

    async def _settle(self, status: Status) -> Receipt:
        order, usage = self._order, self._used()
        quantities = {
            Unit.INPUT_TOKEN: usage.input_tokens - usage.cached_tokens,
            Unit.CACHED_TOKEN: usage.cached_tokens,
            Unit.OUTPUT_TOKEN: usage.output_tokens,
            Unit.DEVICE_SECOND: self._busy_ns,
        }
        nothing = not (usage.input_tokens or usage.output_tokens or self._started or self._usage)
        free = status == "failed" or nothing
        target = usage.upstream
        bill: pricing.Rates = {}
        if target:
            version = await self._dispatch.prices.current(order.model.id, kind="upstream", target=target)
            bill = version.rates
        settlement = Settlement(
            request_id=order.request_id,
            status=status,
            started_at_ns=self._started_ns,
            finished_at_ns=self._clock.time_ns(),
            first_token_ns=self._first_ns,
            engine=order.model.engine,
            device=self._device,
            busy_ns=self._busy_ns,
            quantities=quantities,
            price_nanos=0 if free else pricing.total(pricing.price(self._price.rates, quantities)),
            compute_cost_nanos=-(-self._busy_ns * self._dispatch.device_cost_nanos(self._device) // 10**9),
            upstream=target,
            upstream_cost_nanos=pricing.total(pricing.price(bill, quantities)),
            metadata=order.metadata or None,
        )
        charged = excess = 0
        if status == "failed":
            await self._dispatch.ledger.release(order.request_id, settlement)
        else:
            settled = await self._dispatch.ledger.settle(settlement)
            charged, excess = settled.price_nanos, settled.excess_nanos
        first_s = None if self._first_ns is None else (self._first_ns - self._started_ns) / 1e9
        receipt = Receipt(
            order.request_id,
            order.model.id,
            status,
            usage,
            self._device,
            self._busy_ns,
            charged,
            settlement.compute_cost_nanos,
            settlement.upstream_cost_nanos,
            excess,
            first_s,
        )
        self._dispatch.settled(receipt)
        return receipt
