"""Reserve, settle, release, recover: what is charged, what is booked, and what never happens."""

import asyncio

import pytest
from ledger_books import Books
from sqlalchemy import text

from dayspring.core.errors import Defect, InsufficientQuota, InvalidRequest, ReservationLost
from dayspring.core.money import Rate
from dayspring.ledger.instances import STALE_S
from dayspring.ledger.service import Ledger
from dayspring.ledger.values import ReserveRequest, Settlement
from dayspring.testing.clock import FakeClock


async def test_a_request_is_held_then_charged_and_every_entry_balances(books: Books) -> None:
    who = await books.customer(1000)
    request = await books.reserve(who, 400)
    assert await books.totals(who.key_id) == (0, 400)
    settled = await books.ledger.settle(books.ended(request, 150, compute_cost_nanos=20))
    assert (settled.price_nanos, settled.margin_nanos) == (150, 130)
    for owner in (who.key_id, who.project_id, who.organization_id):
        assert await books.totals(owner) == (150, 0)
    assert await books.ledger.balances() == {
        f"customer:{who.project_id}/{who.key_id}": 150,
        "revenue:m": -150,
        "compute-cost:cpu/m": 20,
        "device:cpu": -20,
    }
    assert await books.ledger.verify() == []


async def test_a_bound_over_what_is_left_is_refused_and_told_what_is(books: Books) -> None:
    who = await books.customer(1000)
    first = await books.reserve(who, 600)
    with pytest.raises(InsufficientQuota) as caught:
        await books.reserve(who, 401)
    assert caught.value.left_nanos == 400
    assert f"The budget of the key {who.key_id} has 0.0000004 USD left" in str(caught.value)
    await books.reserve(who, 400)
    await books.ledger.settle(books.ended(first, 100))
    with pytest.raises(InsufficientQuota):
        await books.reserve(who, 501)
    await books.reserve(who, 500)
    assert await books.totals(who.key_id) == (100, 900)


@pytest.mark.parametrize("level", ["key_id", "project_id", "organization_id"])
async def test_each_of_the_three_budgets_binds(books: Books, level: str) -> None:
    who = await books.customer()
    await books.accounts.set_budget(getattr(who, level), 100)
    with pytest.raises(InsufficientQuota) as caught:
        await books.reserve(who, 101)
    assert caught.value.left_nanos == 100
    assert getattr(who, level) in caught.value.message
    await books.reserve(who, 100)
    assert await books.ledger.verify() == []


async def test_the_tightest_budget_says_what_is_left(books: Books) -> None:
    who = await books.customer(50)
    await books.accounts.set_budget(who.organization_id, 80)
    with pytest.raises(InsufficientQuota) as caught:
        await books.reserve(who, 90)
    assert caught.value.left_nanos == 50


async def test_a_lowered_budget_never_says_less_than_nothing_is_left(books: Books) -> None:
    who = await books.customer(100)
    await books.reserve(who, 80)
    await books.accounts.set_budget(who.key_id, 10)
    with pytest.raises(InsufficientQuota) as caught:
        await books.reserve(who, 1)
    assert caught.value.left_nanos == 0


async def test_of_300_at_once_with_a_budget_for_100_exactly_100_succeed(books: Books) -> None:
    who = await books.customer(100 * 7)

    async def one() -> bool:
        try:
            request = await books.reserve(who, 7)
        except InsufficientQuota:
            return False
        await books.ledger.settle(books.ended(request, 7))
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(300)))) == 100
    assert await books.totals(who.key_id) == (700, 0)
    assert await books.ledger.verify() == []


async def test_two_servers_at_once_do_not_overdraw_either(books: Books, database_url: str) -> None:
    other_db = type(books.db).open(database_url)
    other = Ledger(other_db, books.clock, "USD")
    await other.start("another home")
    who = await books.customer(100)
    elsewhere = Books(other_db, books.clock)
    elsewhere.ledger = other

    async def one(where: Books) -> bool:
        try:
            request = await where.reserve(who, 1)
        except InsufficientQuota:
            return False
        await where.ledger.settle(where.ended(request, 1, compute_cost_nanos=1))
        return True

    won = await asyncio.gather(*(one((books, elsewhere)[n % 2]) for n in range(240)))
    assert sum(won) == 100
    assert await books.ledger.verify() == []
    other_db.close()


async def test_the_same_request_is_held_once(books: Books) -> None:
    who = await books.customer(100)
    await books.reserve(who, 60)
    request = await books.reserve(who, 40)
    await books.ledger.reserve(ReserveRequest(request, who, "m", "chat", 40))
    assert await books.totals(who.key_id) == (0, 100)


async def test_a_bound_is_replaced_as_one_or_stays(books: Books) -> None:
    who = await books.customer(100)
    request = await books.reserve(who, 60)
    neighbour = asyncio.create_task(books.reserve(who, 10))
    with pytest.raises(InsufficientQuota) as caught:
        await books.ledger.reserve_again(ReserveRequest(request, who, "m", "chat", 101))
    assert caught.value.left_nanos in {90, 100}
    await neighbour
    assert await books.totals(who.key_id) == (0, 70)
    await books.ledger.reserve_again(ReserveRequest(request, who, "m", "chat", 90))
    assert await books.totals(who.key_id) == (0, 100)
    await books.ledger.release(request)
    with pytest.raises(ReservationLost):
        await books.ledger.reserve_again(ReserveRequest(request, who, "m", "chat", 1))
    assert await books.ledger.verify() == []


async def test_settling_twice_is_settling_once(books: Books) -> None:
    who = await books.customer()
    request = await books.reserve(who, 100)
    ended = books.ended(request, 30, compute_cost_nanos=4)
    first = await books.ledger.settle(ended)
    assert await books.ledger.settle(ended) == first
    assert await books.totals(who.key_id) == (30, 0)
    assert await books.ledger.verify() == []


async def test_settling_again_with_other_content_is_refused(books: Books) -> None:
    who = await books.customer()
    request = await books.reserve(who, 100)
    await books.ledger.settle(books.ended(request, 30))
    with pytest.raises(ReservationLost):
        await books.ledger.settle(books.ended(request, 31))
    assert await books.totals(who.key_id) == (30, 0)


async def test_a_released_request_is_never_charged(books: Books) -> None:
    who = await books.customer()
    request = await books.reserve(who, 100)
    assert await books.ledger.release(request)
    assert not await books.ledger.release(request)
    with pytest.raises(ReservationLost):
        await books.ledger.settle(books.ended(request, 30))
    assert await books.totals(who.key_id) == (0, 0)
    assert await books.ledger.balances() == {}


async def test_of_a_settlement_and_a_release_at_once_one_wins(books: Books) -> None:
    who = await books.customer()
    requests = [await books.reserve(who, 10) for _ in range(40)]
    ends = [books.ledger.settle(books.ended(request, 10)) for request in requests]
    releases = [books.ledger.release(request) for request in requests]
    outcomes = await asyncio.gather(*releases, *ends, return_exceptions=True)
    for released, settled in zip(outcomes[:40], outcomes[40:], strict=True):
        assert released != (not isinstance(settled, ReservationLost))
    assert (await books.totals(who.key_id))[1] == 0
    assert await books.ledger.verify() == []


async def test_a_failed_request_costs_us_and_not_the_customer(books: Books) -> None:
    who = await books.customer()
    request = await books.reserve(who, 100)
    assert await books.ledger.release(request, books.ended(request, 30, "failed", compute_cost_nanos=9))
    assert await books.ledger.balances() == {"compute-cost:cpu/m": 9, "device:cpu": -9}
    assert await books.totals(who.key_id) == (0, 0)


async def test_a_failure_must_say_that_it_failed(books: Books) -> None:
    who = await books.customer()
    request = await books.reserve(who, 100)
    with pytest.raises(Defect):
        await books.ledger.release(request, books.ended(request, 30))
    assert await books.totals(who.key_id) == (0, 100)


async def test_what_an_upstream_takes_beyond_the_bound_is_the_operators_loss(books: Books) -> None:
    who = await books.customer(100)
    request = await books.reserve(who, 100)
    settled = await books.ledger.settle(
        books.ended(request, 130, upstream="api.example.com", upstream_cost_nanos=110, device="")
    )
    assert (settled.price_nanos, settled.excess_nanos, settled.margin_nanos) == (100, 30, -10)
    assert await books.totals(who.key_id) == (100, 0)
    assert await books.ledger.balances() == {
        f"customer:{who.project_id}/{who.key_id}": 100,
        "upstream-excess": 30,
        "revenue:m": -130,
        "upstream-cost:api.example.com/m": 110,
        "upstream:api.example.com": -110,
    }
    assert await books.ledger.verify() == []


async def test_our_own_engine_never_charges_over_the_reservation(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    who = await books.customer()
    request = await books.reserve(who, 100)
    settled = await books.ledger.settle(books.ended(request, 130))
    assert (settled.price_nanos, settled.excess_nanos) == (100, 0)
    assert "over its reservation" in caplog.text
    assert await books.ledger.verify() == []


async def test_a_free_request_leaves_a_usage_row_and_no_journal(books: Books) -> None:
    who = await books.customer(0)
    request = await books.reserve(who, 0)
    await books.ledger.settle(books.ended(request, 0))
    assert await books.ledger.balances() == {}
    assert await books.ledger.verify() == []


async def test_an_amount_that_cannot_be_counted_is_refused(books: Books) -> None:
    who = await books.customer()
    with pytest.raises(InvalidRequest):
        await books.reserve(who, 2**61)
    with pytest.raises(InvalidRequest):
        await books.reserve(who, -1)


async def test_a_caller_cancelled_while_reserving_holds_nothing(books: Books) -> None:
    who = await books.customer(100)
    waiting = asyncio.create_task(books.reserve(who, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await books.reserve(who, 100)
    assert await books.totals(who.key_id) == (0, 100)


async def test_a_new_start_recovers_what_the_last_one_held(books: Books) -> None:
    who = await books.customer()
    lost = [await books.reserve(who, 10) for _ in range(3)]
    settled = await books.reserve(who, 10)
    await books.ledger.settle(books.ended(settled, 5))
    again = Ledger(books.db, books.clock, "USD")
    assert await again.start("home") == 3
    assert await books.totals(who.key_id) == (5, 0)
    with pytest.raises(ReservationLost):
        await books.ledger.settle(books.ended(lost[0], 5))
    assert await again.recover() == 0
    assert await again.verify() == []


async def test_another_home_is_left_alone_while_it_lives(books: Books) -> None:
    who = await books.customer()
    await books.reserve(who, 10)
    other = Ledger(books.db, books.clock, "USD")
    assert await other.start("another home") == 0
    assert await books.totals(who.key_id) == (0, 10)


async def test_a_silent_server_is_dead_after_a_minute_also_where_its_folder_was_moved(books: Books) -> None:
    who = await books.customer()
    await books.reserve(who, 10)
    other = Ledger(books.db, books.clock, "USD")
    await other.start("another home")
    back = STALE_S * 10**9 + 1
    aged = text(f"UPDATE server_instances SET heartbeat_at_ns = heartbeat_at_ns - {back} WHERE home = 'home'")
    books.db.write_sync(lambda connection: connection.execute(aged) and None)
    assert await other.recover() == 1
    await books.ledger.heartbeat()
    await books.reserve(who, 10)
    assert await other.recover() == 0


async def test_a_quiet_stop_forgets_the_server_and_a_busy_one_does_not(books: Books) -> None:
    who = await books.customer()
    request = await books.reserve(who, 10)
    await books.ledger.stop()
    again = Ledger(books.db, books.clock, "USD")
    assert await again.start("home") == 1
    with pytest.raises(ReservationLost):
        await books.ledger.settle(books.ended(request, 1))


async def test_idle_time_is_booked_once_on_its_own_line(books: Books) -> None:
    rate = Rate(5_000, 10**9)
    booked = [
        await books.ledger.book_idle(device="cpu", model="m", idle_ns=10**9 + 1, rate=rate, booking_id=f"idle_{n}")
        for n in range(2)
    ]
    assert booked == [5001, 5001]
    assert await books.ledger.book_idle(device="cpu", model="m", idle_ns=10**9, rate=rate, booking_id="idle_0") == 5000
    assert await books.ledger.balances() == {"idle-cost:cpu/m": 10002, "device:cpu": -10002}
    assert await books.ledger.verify() == []


async def test_before_its_start_a_ledger_reserves_nothing(books: Books, fake_clock: FakeClock) -> None:
    who = await books.customer()
    elsewhere = Books(books.db, fake_clock)
    with pytest.raises(Defect):
        await elsewhere.reserve(who, 1)


async def test_verification_finds_a_changed_total(books: Books) -> None:
    who = await books.customer()
    request = await books.reserve(who, 10)
    await books.reserve(who, 10)
    await books.ledger.settle(Settlement(
        request_id=request, status="completed", started_at_ns=0, finished_at_ns=0, price_nanos=10
    ))  # fmt: skip
    for column, sound in (("spent_nanos", 10), ("held_nanos", 10)):
        change = f"UPDATE budgets SET {column} = {column} + :by WHERE owner_id = :owner"
        for by in (1, -1):
            values = {"by": by, "owner": who.key_id}
            books.db.write_sync(lambda connection, v=values, c=change: connection.execute(text(c), v) and None)
            found = [(d.what, d.id, d.expected, d.found) for d in await books.ledger.verify()]
            assert found == ([(column[:-6], who.key_id, sound, sound + 1)] if by == 1 else [])
    unbalanced = "INSERT INTO journals (request_id, kind, created_at_ns, memo) VALUES ('stray', 'request', 1, '')"
    books.db.write_sync(lambda connection: connection.execute(text(unbalanced)) and None)
    assert {d.what for d in await books.ledger.verify()} == {"journal without postings", "journal without a usage row"}
