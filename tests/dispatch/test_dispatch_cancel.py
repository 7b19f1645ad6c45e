"""Wherever a request is cancelled, its money ends exactly once, and by the rule: who left pays for what was made."""

import asyncio
from typing import Any

import pytest
from dispatch_desk import INPUT, OUTPUT, Desk, words

from dayspring.contracts.events import ChoiceEnd, Started, TextDelta, Usage
from dayspring.core.errors import InvalidRequest, PromptOverLimit, Unavailable, WorkerDied
from dayspring.ledger.prices import PriceVersion

FIVE = [Started(3), *words(5)]


async def test_cancelled_before_its_reservation_nothing_is_left(desk: Desk) -> None:
    async def held(*_: object, **__: object) -> None:
        await desk.places.reach("price")

    desk.prices.current = held  # type: ignore[method-assign, assignment]
    await desk.cancelled_at("price")
    assert await desk.rows() == []


async def test_cancelled_while_it_reserves_it_is_released(desk: Desk) -> None:
    await desk.cancelled_at("write 1")
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("failed", 0)


async def test_cancelled_while_tokens_are_counted_nothing_is_left(desk: Desk) -> None:
    # A tenth of what the first bound needs, enough for the exact one.
    await desk.accounts.set_budget(desk.admin.key_id, 3 * INPUT + 20 * OUTPUT)
    await desk.cancelled_at("count")
    assert await desk.rows() == []


@pytest.mark.parametrize(
    ("place", "output_tokens", "price_nanos"),
    [
        ("enter", 0, 0),
        ("step 1", 0, 0),
        ("step 2", 0, 3 * INPUT),
        ("step 5", 3, 3 * INPUT + 3 * OUTPUT),
        ("consumer", 1, 3 * INPUT + OUTPUT),
        ("leave", 5, 3 * INPUT + 5 * OUTPUT),
    ],
)
async def test_cancelled_in_the_work_it_pays_for_what_was_made(
    desk: Desk, place: str, output_tokens: int, price_nanos: int
) -> None:
    desk.compute.scripts = [FIVE]
    await desk.cancelled_at(place)
    (row,) = await desk.rows()
    assert (row.status, row.output_tokens, row.charged_nanos) == ("cancelled", output_tokens, price_nanos)


async def test_cancelled_while_it_settles_it_is_completed(desk: Desk) -> None:
    await desk.cancelled_at("write 2")
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("completed", 3 * INPUT + 5 * OUTPUT)


async def test_cancelled_while_it_looks_up_the_upstreams_bill_it_is_completed(desk: Desk) -> None:
    find = desk.prices.current

    async def held(*given: Any, **named: Any) -> PriceVersion:
        if "target" in named:
            await desk.places.reach("bill")
        return await find(*given, **named)

    desk.prices.current = held  # type: ignore[method-assign]
    desk.compute.scripts = [[TextDelta("a"), ChoiceEnd("stop"), Usage(3, 1, upstream="far")]]
    await desk.cancelled_at("bill")
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("completed", 3 * INPUT + OUTPUT)


async def test_cancelled_while_it_reserves_again_it_is_released(desk: Desk) -> None:
    desk.compute.scripts = [[PromptOverLimit(5)], FIVE]
    await desk.cancelled_at("write 2")
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("cancelled", 0)


async def test_a_whole_answer_cancelled_in_the_middle_is_paid_for_what_was_made(desk: Desk) -> None:
    desk.compute.scripts = [FIVE]
    await desk.cancelled_at("step 4", desk.task(stream=False))
    (row,) = await desk.rows()
    assert (row.status, row.output_tokens) == ("cancelled", 2)


async def test_cancelled_again_while_it_ends_it_still_ends_once(desk: Desk) -> None:
    desk.compute.scripts = [FIVE]
    desk.places.stop, desk.db.places = "step 3", desk.places
    asking = asyncio.create_task(desk.ask())
    await desk.places.reached.wait()
    desk.places.reached.clear()
    desk.places.stop = "leave"
    asking.cancel()
    await desk.places.reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    desk.places.gate.set()
    (row,) = await desk.rows()
    assert (row.status, row.output_tokens) == ("cancelled", 1)


async def test_a_fault_of_the_reader_costs_the_client_nothing(desk: Desk) -> None:
    async def fail(_: object) -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        await desk.ask(each=fail)
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("failed", 0)
    assert row.compute_cost_nanos is not None


async def test_a_cancellation_during_the_end_of_a_fault_is_not_lost(desk: Desk) -> None:
    async def fail(_: object) -> None:
        desk.places.stop = "leave"
        raise InvalidRequest("no")

    asking = asyncio.create_task(desk.ask(each=fail))
    await desk.places.reached.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (row,) = await desk.rows()
    assert row.status == "failed"


async def test_work_that_fails_to_stop_does_not_keep_the_money(desk: Desk) -> None:
    desk.compute.leaving = RuntimeError("told to fail")
    desk.compute.scripts = [FIVE]
    await desk.cancelled_at("consumer")
    (row,) = await desk.rows()
    assert (row.status, row.output_tokens) == ("cancelled", 1)
    with pytest.raises(RuntimeError):
        await desk.ask()
    (_, row) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("failed", 0)


@pytest.mark.parametrize("fault", [Unavailable("The database cannot be written now", "Try again."), OSError("full")])
async def test_what_the_database_cannot_take_is_booked_when_it_can(desk: Desk, fault: Exception) -> None:
    async def break_it(event: object) -> None:
        if isinstance(event, TextDelta):
            desk.db.broken = fault

    with pytest.raises(type(fault)):
        await desk.ask(each=break_it)
    assert await desk.held() == 1
    desk.db.broken = None
    await desk.dispatch.book_rest()
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("failed", 0)  # the client heard that it failed


async def test_who_left_while_the_database_was_away_pays_when_it_is_back(desk: Desk) -> None:
    desk.compute.scripts = [FIVE]

    async def leave(_: object) -> None:
        desk.db.broken = Unavailable("The database cannot be written now", "Try again.")
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await desk.ask(each=leave)
    desk.db.broken = None
    await desk.dispatch.book_rest()
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("cancelled", 3 * INPUT + OUTPUT)


async def test_drain_waits_for_a_call_that_is_being_cancelled(desk: Desk) -> None:
    desk.compute.scripts = [FIVE]
    desk.places.stop, desk.db.places = "step 3", desk.places
    asking = asyncio.create_task(desk.ask())
    await desk.places.reached.wait()
    desk.places.stop = "leave"
    desk.places.reached.clear()
    asking.cancel()
    await desk.places.reached.wait()
    draining = asyncio.create_task(desk.dispatch.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    desk.places.gate.set()
    await draining
    assert await desk.held() == 0
    await asyncio.wait((asking,))
    await desk.rows()


async def test_an_engine_without_an_end_costs_nothing(desk: Desk) -> None:
    desk.compute.scripts = [words(3, usage=False)]
    with pytest.raises(WorkerDied):
        await desk.ask()
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("failed", 0)
