"""Dispatch over a real database and ledger, with a compute that plays a script and can be stopped at any await."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Self

from sqlalchemy import Connection, func, select

from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.service import Accounts, KeyRequest
from dayspring.compute.status import Idle
from dayspring.contracts.clock import SystemClock
from dayspring.contracts.events import ChoiceEnd, Event, TextDelta, Usage
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.tasks import ChatTask, Sampling, Task
from dayspring.core.errors import DayspringError
from dayspring.core.ids import new_id
from dayspring.core.money import Rate, Unit
from dayspring.core.settings import Settings
from dayspring.dispatch.service import Dispatch
from dayspring.dispatch.values import Lane, Order, Receipt, Ticket
from dayspring.ledger.prices import PriceBook, PriceRequest
from dayspring.ledger.report_values import RequestQuery, RequestRow
from dayspring.ledger.reports import Reports
from dayspring.ledger.reservations import reservations
from dayspring.ledger.service import Ledger
from dayspring.store.database import Database

INPUT, OUTPUT = 10, 100
"""Nano-units a token."""
PER_TOKEN = {Unit.INPUT_TOKEN: Rate(INPUT), Unit.OUTPUT_TOKEN: Rate(OUTPUT)}
CONTEXT = 1000

Reader = Callable[[Event], Awaitable[None]]
Step = Event | BaseException | str
"""An event to give, an error to raise, or the name of a place to pass."""


def words(count: int, usage: bool = True) -> list[Step]:
    """A whole answer of so many tokens to a prompt of three."""
    answer: list[Step] = [TextDelta("w ") for _ in range(count)]
    return [*answer, ChoiceEnd("stop"), *([Usage(3, count)] if usage else [])]


class Places:
    """Where a test may hold what runs: `reach` waits at the place named `stop` until `gate` is opened."""

    def __init__(self) -> None:
        self.stop = ""
        self.reached = asyncio.Event()
        self.gate = asyncio.Event()
        self.passed: list[str] = []

    async def reach(self, name: str) -> None:
        self.passed.append(name)
        if name == self.stop:
            self.reached.set()
            await self.gate.wait()


class HeldDatabase(Database):
    """Each write is a place, `write 1`, `write 2`, ...; as with the real one, cancelling its waiter changes nothing."""

    places: Places | None = None
    writes = 0
    broken: BaseException | None = None
    """What the next writes raise instead of being done."""

    async def write(self, fn: Callable[[Connection], Any]) -> Any:
        if self.broken is not None:
            raise self.broken
        if self.places is None:
            return await super().write(fn)
        self.writes += 1
        name, done = f"write {self.writes}", asyncio.ensure_future(super().write(fn))
        await self.places.reach(name)
        return await done


class Run:
    def __init__(self, compute: "FakeCompute", script: Sequence[Step], task: Task) -> None:
        self._compute = compute
        self._script = script
        self._task = task
        self.device = ""
        self.busy_ns = 0

    async def __aenter__(self) -> Self:
        await self._compute.places.reach("enter")
        self._compute.running += 1
        self.device = "cpu"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._compute.running -= 1
        self.busy_ns = self._compute.busy_ns
        await self._compute.places.reach("leave")
        if self._compute.leaving is not None:
            raise self._compute.leaving

    async def __aiter__(self) -> AsyncIterator[Event]:
        for number, step in enumerate(self._script, 1):
            await self._compute.places.reach(f"step {number}")
            if isinstance(step, BaseException):
                raise step
            if not isinstance(step, str):
                yield step


class FakeCompute:
    """Plays `scripts`, one for each run, the last one again and again."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.scripts: list[Sequence[Step]] = [words(5)]
        self.tasks: list[Task] = []
        self.tokens = 3
        self.busy_ns = 1_000
        self.running = 0
        self.counted = 0
        self.leaving: BaseException | None = None
        self.idle: list[Idle] = []

    def run(self, model: Model, task: Task) -> Run:
        self.tasks.append(task)
        return Run(self, self.scripts[min(len(self.tasks), len(self.scripts)) - 1], task)

    async def count_tokens(self, model: Model, task: Task) -> int:
        self.counted += 1
        await self.places.reach("count")
        return self.tokens

    def take_idle(self) -> list[Idle]:
        taken, self.idle = self.idle, []
        return taken


class Desk:
    """Everything a call needs. `ask` runs one to its end and returns its receipt."""

    def __init__(self, db: HeldDatabase, **settings: Any) -> None:
        self.db = db
        self.places = Places()
        self.compute = FakeCompute(self.places)
        clock = SystemClock()
        self.accounts = Accounts(db, clock)
        self.prices = PriceBook(db, clock)
        self.ledger = Ledger(db, clock, "USD")
        self.reports = Reports(db, clock, "USD")
        self.receipts: list[Receipt] = []
        self.settings = Settings(**settings)
        hub: Any = None
        compute: Any = self.compute
        self.dispatch = Dispatch(hub, self.prices, self.ledger, compute, self.settings, clock, self.receipts.append)
        self.admin: Principal
        self.model = Model(id="m", engine="echo", abilities=tuple(Ability), context_tokens=CONTEXT)

    async def open(self, rates: dict[Unit, Rate] | None = None) -> Self:
        made = await self.accounts.bootstrap("USD")
        assert made is not None
        self.admin = made.key.principal
        await self.ledger.start("home")
        await self.price(PER_TOKEN if rates is None else rates)
        return self

    async def price(self, rates: dict[Unit, Rate], **more: Any) -> None:
        await self.prices.set(PriceRequest(model_id="m", rates=rates, **more))

    async def customer(self, budget_nanos: int | None = None) -> Principal:
        request = KeyRequest(name="c", budget_nanos=budget_nanos, scopes=frozenset({Scope.INFERENCE, Scope.USAGE}))
        return (await self.accounts.create_key(request)).key.principal

    def task(self, text: str = "hi", *, stream: bool = True, n: int = 1, max_tokens: int | None = 20) -> ChatTask:
        message = {"role": "user", "content": text}
        return ChatTask(messages=(message,), sampling=Sampling(max_tokens=max_tokens), n=n, stream=stream)

    async def ask(
        self,
        task: Task | None = None,
        who: Principal | None = None,
        *,
        each: Callable[[Event], Awaitable[None]] | None = None,
        bill_key: str = "",
        lane: Lane = "live",
    ) -> Receipt:
        order = Order(Ticket(new_id("req"), bill_key, lane), who or self.admin, self.model, task or self.task())
        async with self.dispatch.open(order) as call:
            async for event in call:
                if each is not None:
                    await each(event)
            return await call.settle()

    async def cancelled_at(self, place: str, task: Task | None = None) -> None:
        """Asks, cancels when the place is reached, then lets everything go on to its end."""
        self.places.stop = place
        self.db.places, self.db.writes = self.places, 0
        asking = asyncio.create_task(self.ask(task, each=lambda _: self.places.reach("consumer")))
        await self.places.reached.wait()
        asking.cancel()
        self.places.gate.set()
        try:
            await asking
        except asyncio.CancelledError:
            pass
        else:
            raise AssertionError("it was not cancelled")

    async def rows(self) -> list[RequestRow]:
        """The usage rows, oldest first, once everything has ended and the books agree."""
        await self.dispatch.drain()
        self.db.places = None
        assert await self.ledger.verify() == []
        assert await self.held() == 0
        assert self.compute.running == 0
        return (await self.reports.list_requests(self.admin, RequestQuery(order="asc", limit=1000))).data

    async def held(self) -> int:
        """How many reservations there are."""
        query = select(func.count()).select_from(reservations)
        return await self.db.read(lambda connection: int(connection.execute(query).scalar_one()))


async def outcome(asking: asyncio.Task[Receipt], cancel_after: int | None, *told: type[Exception]) -> Receipt | None:
    """The receipt, or None: cancelled after so many turns of the loop, or failed with an error of ours or as told."""
    if cancel_after is not None:
        for _ in range(cancel_after):
            await asyncio.sleep(0)
        asking.cancel()
    with contextlib.suppress(asyncio.CancelledError, DayspringError, *told):
        return await asking
    return None


async def settled(desk: Desk, who: Principal, budget_nanos: int | None, before: int) -> list[RequestRow]:
    """The rows after the first `before`: of one request of a customer's, whose budget agrees with them."""
    rows = (await desk.rows())[before:]
    budget = await desk.accounts.budget(who.key_id)
    assert budget.held_nanos == 0, budget
    assert budget_nanos is None or budget.spent_nanos <= budget_nanos, budget
    assert len(rows) <= 1, rows  # none where nothing was ever reserved
    assert budget.spent_nanos == sum(row.charged_nanos or 0 for row in rows), (budget, rows)
    assert all(row.charged_nanos == 0 for row in rows if row.status == "failed"), rows
    return rows
