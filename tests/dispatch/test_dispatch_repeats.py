"""Work that may be repeated is charged once, whatever happens to its first try; batch work has its own price."""

import asyncio

import pytest
from dispatch_desk import INPUT, OUTPUT, Desk, words

from dayspring.contracts.events import TextDelta
from dayspring.core.errors import DayspringError, Unavailable
from dayspring.core.money import Rate, Unit
from dayspring.ledger.prices import PriceRequest

WHOLE = 3 * INPUT + 5 * OUTPUT


async def test_of_all_requests_with_one_key_the_first_to_complete_is_charged(desk: Desk) -> None:
    prices = [(await desk.ask(bill_key="job/1")).price_nanos for _ in range(3)]
    assert prices == [WHOLE, 0, 0]
    assert [row.status for row in await desk.rows()] == ["completed"] * 3
    assert (await desk.ask(bill_key="job/2")).price_nanos == WHOLE
    assert [(await desk.ask()).price_nanos for _ in range(2)] == [WHOLE, WHOLE]


async def test_of_requests_at_once_with_one_key_exactly_one_is_charged(desk: Desk) -> None:
    receipts = await asyncio.gather(*(desk.ask(bill_key="job/1") for _ in range(20)))
    assert sorted(receipt.price_nanos for receipt in receipts) == [0] * 19 + [WHOLE]
    await desk.rows()


async def test_a_try_that_failed_or_was_cut_leaves_the_key_to_the_one_that_completes(desk: Desk) -> None:
    desk.compute.scripts = [[TextDelta("w "), Unavailable("Gone", "Wait.")], words(5)]
    with pytest.raises(DayspringError):
        await desk.ask(bill_key="job/1")

    async def leave(_: object) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await desk.ask(bill_key="job/1", each=leave)
    assert (await desk.ask(bill_key="job/1")).price_nanos == WHOLE
    rows = await desk.rows()
    assert [(row.status, row.charged_nanos) for row in rows] == [("failed", 0), ("failed", 0), ("completed", WHOLE)]


async def test_batch_work_pays_its_own_price_where_one_is_set(desk: Desk) -> None:
    assert (await desk.ask(lane="batch")).price_nanos == WHOLE
    await desk.prices.set(_batch("*", 1))
    assert (await desk.ask(lane="batch")).price_nanos == WHOLE, "the model's own price is nearer than anyone's"
    await desk.prices.set(_batch("m", 50))
    assert (await desk.ask(lane="batch")).price_nanos == 5 * 50
    assert (await desk.ask()).price_nanos == WHOLE
    await desk.rows()


def _batch(model: str, nanos: int) -> PriceRequest:
    return PriceRequest(model_id=model, rates={Unit.OUTPUT_TOKEN: Rate(nanos)}, kind="batch")
