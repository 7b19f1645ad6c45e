"""Limits on rates as a call meets them: counted by estimate, then by the truth, and given back by a refusal."""

import asyncio

import msgspec
import pytest
from dispatch_desk import Desk, words

from dayspring.accounts.budgets import KEY
from dayspring.accounts.principals import Limit, Principal
from dayspring.core.errors import Busy, InsufficientQuota


def limited(desk: Desk, who: Principal | None = None, **rates: int) -> Principal:
    who = who or desk.admin
    return msgspec.structs.replace(who, limits=(Limit(who.key_id, KEY, **rates),))


async def test_a_request_beyond_the_rate_is_refused_before_anything_is_held(desk: Desk) -> None:
    who = limited(desk, requests_per_minute=2)
    for _ in range(2):
        await desk.ask(who=who)
    with pytest.raises(Busy) as refusal:
        await desk.ask(who=who)
    assert 0 < (refusal.value.retry_after_s or 0) <= 30
    assert await desk.held() == 0
    assert len(desk.compute.tasks) == 2


async def test_at_its_end_a_request_counts_the_tokens_it_took(desk: Desk) -> None:
    who = limited(desk, tokens_per_minute=1000)
    await desk.ask(who=who)
    standing = desk.dispatch.limiter.standing(who)
    assert standing is not None
    assert standing.tokens is not None
    assert 1000 - standing.tokens.remaining == 3 + 5


async def test_a_place_is_free_again_however_the_call_ended(desk: Desk) -> None:
    who = limited(desk, concurrency=1)
    desk.compute.scripts = [words(3, usage=False), words(3)]
    with pytest.raises(Exception, match="ended"):
        await desk.ask(who=who)
    poor = limited(desk, await desk.customer(0), concurrency=1)
    with pytest.raises(InsufficientQuota):
        await desk.ask(who=poor)
    await desk.cancelled_at("step 2")
    assert (await desk.ask(who=who)).status == "completed"


async def test_of_many_at_once_no_more_run_than_the_limit(desk: Desk) -> None:
    who = limited(desk, concurrency=3)
    results = await asyncio.gather(*(desk.ask(who=who) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(each, Busy) for each in results) == 7


async def test_batch_work_counts_towards_no_rate(desk: Desk) -> None:
    who = limited(desk, requests_per_minute=1)
    for _ in range(3):
        await desk.ask(who=who, lane="batch")
    await desk.ask(who=who)
