"""Live and batch lanes: who goes when, and that no place is ever lost."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from dayspring.dispatch.lanes import Lanes


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


class Caller:
    """One call that holds its lane until told to end."""

    def __init__(self, lanes: Lanes, lane: str) -> None:
        self.begun = False
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._run(lanes, lane))

    async def _run(self, lanes: Lanes, lane: str) -> None:
        async with lanes.turn(lane):  # type: ignore[arg-type]
            self.begun = True
            await self._end.wait()

    async def end(self) -> None:
        """Ends it; one that still waits for its turn gives up."""
        self._end.set()
        if not self.begun:
            self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_batch_work_fills_all_slots_but_one_while_nobody_else_asks() -> None:
    lanes = Lanes(4)
    calls = [Caller(lanes, "batch") for _ in range(6)]
    await settle()
    assert [call.begun for call in calls] == [True] * 3 + [False] * 3
    for call in calls:
        await settle()
        assert call.begun
        await call.end()


async def test_beside_a_live_request_one_batch_call_runs_and_the_rest_go_on_after_it() -> None:
    lanes = Lanes(4)
    live = Caller(lanes, "live")
    await settle()
    calls = [Caller(lanes, "batch") for _ in range(3)]
    await settle()
    assert [call.begun for call in calls] == [True, False, False]
    await calls[0].end()
    await settle()
    assert [call.begun for call in calls] == [True, True, False]
    await live.end()
    await settle()
    assert calls[2].begun
    for call in calls:
        await call.end()


async def test_a_live_request_never_waits() -> None:
    lanes = Lanes(2)
    batch = [Caller(lanes, "batch") for _ in range(5)]
    live = [Caller(lanes, "live") for _ in range(5)]
    await settle()
    assert all(call.begun for call in live)
    for call in (*live, *batch):
        await call.end()


async def test_who_gives_up_at_the_moment_a_place_is_freed_just_gives_up() -> None:
    lanes = Lanes(2)
    first, second, third = (Caller(lanes, "batch") for _ in range(3))
    await settle()
    first._end.set()  # the first one's place is free before the second hears that it is cancelled
    second.task.cancel()
    await settle()
    assert second.task.cancelled()
    assert third.begun
    await third.end()


@given(st.lists(st.tuples(st.sampled_from(["live", "batch", "end", "cancel"]), st.integers(0, 9)), max_size=60))
def test_whatever_comes_goes_and_is_cancelled_no_place_is_lost_and_no_rule_broken(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        lanes = Lanes(3)
        open_calls: list[tuple[str, Caller]] = []
        for verb, number in steps:
            begun_before = sum(call.begun for lane, call in open_calls if lane == "batch")
            if verb in ("live", "batch"):
                open_calls.append((verb, Caller(lanes, verb)))
            elif open_calls:
                _, call = open_calls.pop(number % len(open_calls))
                if verb == "cancel":
                    call.task.cancel()
                await call.end()
            await settle()
            begun = sum(call.begun for lane, call in open_calls if lane == "batch")
            live = any(lane == "live" for lane, _ in open_calls)
            assert begun <= 2
            if live and begun > begun_before:  # one that begins beside live work is alone
                assert begun == 1
        for _, call in open_calls:
            await call.end()
        last = [Caller(lanes, "batch") for _ in range(2)]
        await settle()
        assert all(call.begun for call in last)
        for call in last:
            await call.end()

    asyncio.run(play())
