"""Budgets with a period: refilled at its end, never overdrawn across it, recomputed from the postings."""

import asyncio
import datetime
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from ledger_books import Books
from sqlalchemy import update

from dayspring.accounts.budgets import budgets, set_period
from dayspring.accounts.periods import Period, boundaries
from dayspring.core.errors import InsufficientQuota
from dayspring.ledger.service import Ledger
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock

DAY_S = 86_400


def _ns(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        (Period.DAY, "2026-11-22T12:30:00", "2026-11-22", "2026-11-23"),
        (Period.WEEK, "2026-11-22T12:30:00", "2026-11-16", "2026-11-23"),
        (Period.WEEK, "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
        (Period.MONTH, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        (Period.MONTH, "2028-02-29T00:00:00", "2028-02-01", "2028-03-01"),
        (Period.WEEK, "1970-01-02T00:00:00", "1969-12-29", "1970-01-05"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(period: Period, at: str, start: str, end: str) -> None:
    assert boundaries(period, _ns(at)) == (_ns(start), _ns(end))
    assert boundaries(Period.NONE, _ns(at)) == (0, None)


@given(st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]), st.integers(0, 2**62))
def test_periods_follow_each_other_without_gap_or_overlap(period: Period, at_ns: int) -> None:
    start, end = boundaries(period, at_ns)
    assert end is not None
    assert start <= at_ns < end
    assert boundaries(period, end)[0] == end
    assert boundaries(period, start - 1)[1] == start


async def _monthly(books: Books, limit: int, period: Period = Period.MONTH):  # type: ignore[no-untyped-def] # noqa: ANN202
    who = await books.customer(limit)
    now_ns = books.clock.time_ns()
    await books.db.write(lambda connection: set_period(connection, who.key_id, period, now_ns))
    return who


async def test_a_budget_is_refilled_at_the_end_of_its_period(books: Books, fake_clock: FakeClock) -> None:
    who = await _monthly(books, 100)
    await books.ledger.settle(books.ended(await books.reserve(who, 90), 90))
    with pytest.raises(InsufficientQuota, match="wait for its reset at 2023-12-01 00:00 UTC"):
        await books.reserve(who, 11)
    fake_clock.advance(ns=_ns("2023-12-01") - fake_clock.time_ns() - 1)
    with pytest.raises(InsufficientQuota) as caught:
        await books.reserve(who, 11)
    assert caught.value.left_nanos == 10
    fake_clock.advance(ns=1)
    budget = await books.accounts.budget(who.key_id)
    assert (budget.left_nanos, budget.spent_nanos, budget.period_spent_nanos) == (100, 90, 0)
    assert budget.resets_at_ns == _ns("2024-01-01")
    with pytest.raises(InsufficientQuota):
        await books.reserve(who, 101)
    await books.ledger.settle(books.ended(await books.reserve(who, 100), 100))
    budget = await books.accounts.budget(who.key_id)
    assert (budget.left_nanos, budget.spent_nanos, budget.period_spent_nanos) == (0, 190, 100)
    assert await books.ledger.verify() == []


async def test_a_reservation_that_outlives_its_period_counts_in_the_next(books: Books, fake_clock: FakeClock) -> None:
    who = await _monthly(books, 100, Period.DAY)
    early = await books.reserve(who, 70)
    fake_clock.advance(DAY_S)
    with pytest.raises(InsufficientQuota) as caught:
        await books.reserve(who, 31)
    assert caught.value.left_nanos == 30, "what is held is held of the new period"
    late = await books.reserve(who, 30)
    await books.ledger.settle(books.ended(early, 70))
    await books.ledger.settle(books.ended(late, 30))
    budget = await books.accounts.budget(who.key_id)
    assert (budget.period_spent_nanos, budget.left_nanos) == (100, 0)
    assert await books.ledger.verify() == []


async def test_a_charge_turns_the_period_of_a_budget_that_nobody_reserved_from(
    books: Books, fake_clock: FakeClock
) -> None:
    who = await _monthly(books, 100, Period.DAY)
    first = await books.reserve(who, 60)
    second = await books.reserve(who, 40)
    await books.ledger.settle(books.ended(first, 60))
    fake_clock.advance(3 * DAY_S)
    await books.ledger.settle(books.ended(second, 40))
    budget = await books.accounts.budget(who.key_id)
    assert (budget.spent_nanos, budget.period_spent_nanos) == (100, 40)
    assert await books.ledger.verify() == []


async def test_a_period_begins_when_it_is_set_and_none_counts_everything(books: Books, fake_clock: FakeClock) -> None:
    who = await books.customer(100)
    await books.ledger.settle(books.ended(await books.reserve(who, 80), 80))
    fake_clock.advance(1)
    now_ns = fake_clock.time_ns()
    await books.db.write(lambda connection: set_period(connection, who.key_id, Period.WEEK, now_ns))
    assert (await books.accounts.budget(who.key_id)).left_nanos == 100
    await books.ledger.settle(books.ended(await books.reserve(who, 10), 10))
    await books.db.write(lambda connection: set_period(connection, who.key_id, Period.WEEK, now_ns))
    assert (await books.accounts.budget(who.key_id)).left_nanos == 90, "the same again changes nothing"
    assert await books.ledger.verify() == []
    await books.db.write(lambda connection: set_period(connection, who.key_id, Period.NONE, now_ns))
    assert (await books.accounts.budget(who.key_id)).left_nanos == 10
    assert await books.ledger.verify() == []


async def test_a_server_whose_clock_is_behind_books_into_the_period_that_has_begun(
    books: Books, fake_clock: FakeClock
) -> None:
    who = await _monthly(books, 100, Period.DAY)
    behind = Ledger(books.db, FakeClock(fake_clock.time_ns() - 5 * 10**9), "USD")
    await behind.start("another home")
    other = Books(books.db, FakeClock(_ns("2023-11-14T23:59:58")))
    other.ledger = behind
    behind._clock = other.clock
    waiting = await other.reserve(who, 20)
    fake_clock.advance(ns=_ns("2023-11-15T00:00:01") - fake_clock.time_ns())
    await books.ledger.settle(books.ended(await books.reserve(who, 80), 80))
    await behind.settle(other.ended(waiting, 20))
    with pytest.raises(InsufficientQuota):
        await other.reserve(who, 1)
    assert (await books.accounts.budget(who.key_id)).period_spent_nanos == 100
    now_ns = other.clock.time_ns()
    await books.db.write(lambda connection: set_period(connection, who.key_id, Period.WEEK, now_ns))
    assert await books.ledger.verify() == []


async def test_what_was_spent_before_a_period_is_recomputed_by_the_verification(books: Books) -> None:
    who = await _monthly(books, 100)
    await books.db.write(
        lambda connection: (
            connection.execute(update(budgets).where(budgets.c.owner_id == who.key_id).values(base_nanos=-1)).rowcount
        )
    )
    (difference,) = await books.ledger.verify()
    assert (difference.what, difference.id, difference.expected) == ("spent before the period", who.key_id, 0)


@pytest.mark.timeout(120)
async def test_three_hundred_at_once_over_a_rollover_never_overdraw_any_period(
    books: Books, fake_clock: FakeClock
) -> None:
    """Waves of 300 at once, each before, over and after midnight; some settle a day after they were reserved."""
    who = await _monthly(books, 1000, Period.DAY)
    spent: dict[int, int] = {}
    kept: list[tuple[str, int]] = []

    async def one(number: int) -> tuple[str, int] | None:
        amount = 1 + number % 37
        try:
            request = await books.reserve(who, amount)
        except InsufficientQuota:
            return None
        if number % 3 == 0:
            return request, amount
        charged = (await books.ledger.settle(books.ended(request, amount - number % 2))).price_nanos
        day = fake_clock.time_ns() // (DAY_S * 10**9)
        spent[day] = spent.get(day, 0) + charged
        return None

    async def end(request: str, amount: int) -> None:
        charged = (await books.ledger.settle(books.ended(request, amount))).price_nanos
        day = fake_clock.time_ns() // (DAY_S * 10**9)
        spent[day] = spent.get(day, 0) + charged

    for wave in range(4):
        jobs = [one(number) for number in range(300)] + [end(*one_kept) for one_kept in kept]
        kept = [found for found in await asyncio.gather(*jobs) if found is not None]
        budget = await books.accounts.budget(who.key_id)
        assert budget.left_nanos is not None
        assert budget.left_nanos >= 0
        fake_clock.advance(DAY_S if wave % 2 else DAY_S // 2)
    assert all(amount <= 1000 for amount in spent.values()), spent
    assert max(spent.values()) > 900, "the budget was reached, else this proves nothing"
    await asyncio.gather(*(end(*one_kept) for one_kept in kept))
    assert all(amount <= 1000 for amount in spent.values()), spent
    assert await books.ledger.verify() == []


class Machine(RuleBasedStateMachine):
    """Two customers of one project, with limits by day and week; the model is what each day and week has spent."""

    LIMITS = (100, 100, 150)

    def __init__(self, template: Path) -> None:
        super().__init__()
        self._folder = tempfile.mkdtemp()
        path = Path(self._folder) / "test.db"
        shutil.copyfile(template, path)
        self._loop = asyncio.new_event_loop()
        self._clock = FakeClock()
        self._books = Books(Database.open(f"sqlite:///{path}"), self._clock)
        self._run(self._books.open())
        self._customers = [self._run(self._books.customer(self.LIMITS[each])) for each in (0, 1)]
        project = self._customers[0].project_id
        self._run(self._books.accounts.set_budget(project, self.LIMITS[2]))
        self._owners = [(self._customers[0].key_id, Period.DAY), (self._customers[1].key_id, Period.WEEK),
                        (project, Period.DAY)]  # fmt: skip
        for owner, period in self._owners:
            self._run(self._books.db.write(
                lambda connection, owner=owner, period=period: set_period(
                    connection, owner, period, self._clock.time_ns()
                )
            ))  # fmt: skip
        self._held: dict[str, tuple[int, int]] = {}
        self._charged: list[tuple[int, int, int]] = []
        """When, which customer, how much."""

    def _run(self, awaited):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        return self._loop.run_until_complete(awaited)

    def teardown(self) -> None:
        self._books.db.close()
        self._loop.close()
        shutil.rmtree(self._folder)

    def _spent(self, owner: int) -> int:
        start, _ = boundaries(self._owners[owner][1], self._clock.time_ns())
        return sum(amount for at, who, amount in self._charged if at >= start and owner in (who, 2))

    def _left(self, owner: int) -> int:
        held = sum(amount for who, amount in self._held.values() if owner in (who, 2))
        return self.LIMITS[owner] - self._spent(owner) - held

    @rule(customer=st.integers(0, 1), amount=st.integers(0, 60))
    def reserve(self, customer: int, amount: int) -> None:
        left = min(self._left(customer), self._left(2))
        reserve = self._books.reserve(self._customers[customer], amount)
        if amount <= left:
            self._held[self._run(reserve)] = (customer, amount)
            return
        with pytest.raises(InsufficientQuota) as caught:
            self._run(reserve)
        assert caught.value.left_nanos == max(0, left)

    @precondition(lambda self: self._held)
    @rule(data=st.data(), price=st.integers(0, 60))
    def settle(self, data: st.DataObject, price: int) -> None:
        request = data.draw(st.sampled_from(sorted(self._held)))
        customer, amount = self._held.pop(request)
        self._run(self._books.ledger.settle(self._books.ended(request, price)))
        self._charged.append((self._clock.time_ns(), customer, min(price, amount)))

    @precondition(lambda self: self._held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self._held)))
        del self._held[request]
        self._run(self._books.ledger.release(request))

    @rule(hours=st.sampled_from([1, 7, 24, 100, 24 * 40]))
    def wait(self, hours: int) -> None:
        self._clock.advance(hours * 3600)

    @invariant()
    def every_period_is_kept_and_the_books_agree(self) -> None:
        if not hasattr(self, "_charged"):
            return
        assert self._run(self._books.ledger.verify()) == []
        for index, (owner, _) in enumerate(self._owners):
            budget = self._run(self._books.accounts.budget(owner))
            assert budget.period_spent_nanos == self._spent(index)
            assert budget.left_nanos == self._left(index) >= 0


def test_no_interleaving_overdraws_a_period(migrated_sqlite: Path) -> None:
    run_state_machine_as_test(
        lambda: Machine(migrated_sqlite),
        settings=settings(
            max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
