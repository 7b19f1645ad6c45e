"""The price book: versions that never change."""

import pytest

from dayspring.core.errors import InvalidRequest
from dayspring.core.money import Rate, Unit
from dayspring.ledger.prices import FREE, TTL_S, PriceBook, PriceRequest
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock

CHEAP, DEAR = {Unit.OUTPUT_TOKEN: Rate(1, 1000)}, {Unit.OUTPUT_TOKEN: Rate(9, 1000), Unit.REQUEST: Rate(5)}


@pytest.fixture
def book(database: Database, fake_clock: FakeClock) -> PriceBook:
    return PriceBook(database, fake_clock)


async def test_a_model_without_a_price_is_free_and_says_so(book: PriceBook) -> None:
    assert await book.current("m") == FREE
    assert FREE.is_default
    assert "no price is set" in FREE.created_by


async def test_a_models_own_price_goes_before_the_general_one(book: PriceBook) -> None:
    general = await book.set(PriceRequest(model_id="*", rates=DEAR))
    assert await book.current("m") == general
    own = await book.set(PriceRequest(model_id="m", rates=CHEAP, created_by="key_1"))
    assert await book.current("m") == own
    assert await book.current("other") == general
    assert own.rates == CHEAP


async def test_a_new_version_begins_when_it_says_and_changes_no_older_one(
    book: PriceBook, fake_clock: FakeClock
) -> None:
    first = await book.set(PriceRequest(model_id="m", rates=CHEAP))
    at_ns = fake_clock.time_ns() + 10 * 10**9
    second = await book.set(PriceRequest(model_id="m", rates=DEAR, effective_from_ns=at_ns))
    assert await book.current("m") == first
    assert await book.current("m", at_ns) == second
    fake_clock.advance(10)
    assert await book.current("m") == second
    assert await book.current("m", at_ns - 1) == first
    assert await book.versions("m") == [first, second]
    assert await book.get(first.id) == first
    assert await book.get(10**6) == FREE


async def test_of_two_that_begin_together_the_later_holds(book: PriceBook) -> None:
    await book.set(PriceRequest(model_id="m", rates=CHEAP))
    later = await book.set(PriceRequest(model_id="m", rates=DEAR))
    assert await book.current("m") == later


async def test_an_upstreams_price_is_apart_from_ours(book: PriceBook) -> None:
    taken = await book.set(PriceRequest(model_id="m", rates=DEAR, kind="upstream", target="api.example.com"))
    assert await book.current("m") == FREE
    assert await book.current("m", kind="upstream", target="api.example.com") == taken
    assert await book.current("m", kind="upstream", target="other.example") == FREE


async def test_a_price_cannot_begin_in_the_past_or_be_for_nothing(book: PriceBook, fake_clock: FakeClock) -> None:
    for request in (
        PriceRequest(model_id="m", rates=CHEAP, effective_from_ns=fake_clock.time_ns() - 1),
        PriceRequest(model_id="", rates=CHEAP),
        PriceRequest(model_id="m", rates=CHEAP, kind="upstream"),
        PriceRequest(model_id="m", rates=CHEAP, target="x"),
    ):
        with pytest.raises(InvalidRequest):
            await book.set(request)
    assert await book.versions() == []


async def test_another_servers_price_is_seen_within_a_second_and_a_known_one_costs_no_read(
    book: PriceBook, database: Database, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await book.current("m") == FREE
    elsewhere = PriceBook(database, fake_clock)
    new = await elsewhere.set(PriceRequest(model_id="m", rates=CHEAP))
    read = database.read
    monkeypatch.setattr(database, "read", None)
    assert await book.current("m") == FREE
    monkeypatch.setattr(database, "read", read)
    fake_clock.advance(TTL_S)
    assert await book.current("m") == new
