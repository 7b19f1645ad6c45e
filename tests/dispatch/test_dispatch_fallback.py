"""Fallbacks: what is tried next and when, what it costs, and that the books agree whatever fails."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from dispatch_desk import PER_TOKEN, Desk, Step, outcome, settled, words
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dayspring.contracts.engine import engine_defaults
from dayspring.contracts.events import ChoiceEnd, TextDelta, Usage
from dayspring.contracts.models import Ability, Modality, Model
from dayspring.contracts.tasks import ChatTask, EmbeddingTask, Task
from dayspring.core.errors import (
    Busy,
    DayspringError,
    InsufficientQuota,
    InvalidRequest,
    OutOfMemory,
    TimedOut,
    Unavailable,
    UpstreamFailed,
    WorkerDied,
)
from dayspring.core.ids import new_id
from dayspring.core.money import Rate, Unit
from dayspring.core.pictures import DATA_URL_PREFIX
from dayspring.dispatch.pictures import Pictures
from dayspring.dispatch.values import Order, Receipt, Ticket
from dayspring.ledger.prices import PriceRequest

DEAR = {Unit.INPUT_TOKEN: Rate(100), Unit.OUTPUT_TOKEN: Rate(1000)}
CHEAP = {Unit.INPUT_TOKEN: Rate(1), Unit.OUTPUT_TOKEN: Rate(10)}


def model(name: str, **more: Any) -> Model:
    return Model(**{"id": name, "engine": "echo", "abilities": tuple(Ability), "context_tokens": 1000, **more})


class Names:
    """The hub, as far as dispatch asks it: what a name leads to."""

    def __init__(self, others: Sequence[Model]) -> None:
        self.others = tuple(others)

    def fallbacks(self, name: str) -> tuple[Model, ...]:
        return self.others if name == "best" else ()


async def ask(desk: Desk, others: Sequence[Model], *, who: Any = None, task: Task | None = None) -> Receipt:
    hub: Any = Names(others)
    desk.dispatch.hub = hub
    order = Order(Ticket(new_id("req")), who or desk.admin, desk.model, task or desk.task(), name="best")
    async with desk.dispatch.open(order) as call:
        async for _ in call:
            pass
        assert call.model.id in {desk.model.id, *(each.id for each in others)}
        return await call.settle()


async def set_price(desk: Desk, name: str, rates: dict[Unit, Rate]) -> None:
    await desk.prices.set(PriceRequest(model_id=name, rates=rates))


def gone(**_: object) -> Unavailable:
    return Unavailable("It is not there", "Wait.")


FAILURES: list[DayspringError] = [
    gone(),
    OutOfMemory(model="m", needed_bytes=2, free_bytes=1),
    UpstreamFailed(model="m", reason="failed"),
    TimedOut("The service", limit_s=1, setting="X"),
    Busy("The service is at its limit", retry_after_s=1),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.code)
async def test_the_next_model_answers_at_its_own_price(desk: Desk, failure: DayspringError) -> None:
    await set_price(desk, "other", CHEAP)
    desk.compute.scripts = [[failure], words(5)]
    receipt = await ask(desk, [model("other")])
    assert (receipt.model_id, receipt.status, receipt.price_nanos) == ("other", "completed", 3 * 1 + 5 * 10)
    (row,) = await desk.rows()
    assert (row.model, row.charged_nanos) == ("other", 53)
    assert await desk.ledger.verify() == []


async def test_a_dead_worker_is_tried_once_more_before_the_next_model(desk: Desk) -> None:
    died = [WorkerDied(model="m")]
    desk.compute.scripts = [died, died, words(2)]
    receipt = await ask(desk, [model("other")])
    assert receipt.model_id == "other"
    assert len(desk.compute.tasks) == 3


@pytest.mark.parametrize("failure", [InvalidRequest("no"), RuntimeError("told to")], ids=["request", "defect"])
async def test_a_fault_of_the_request_or_of_ours_ends_it(desk: Desk, failure: Exception) -> None:
    desk.compute.scripts = [[failure], words(5)]
    with pytest.raises(type(failure)):
        await ask(desk, [model("other")])
    assert len(desk.compute.tasks) == 1
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("failed", 0)


class Album(Pictures):
    """Has every picture at hand."""

    async def read(self, url: str, where: str, ends_s: float) -> str:
        return f"{DATA_URL_PREFIX}image/png;base64,AAAA"


async def test_a_service_that_is_tried_next_gets_pictures_as_bytes_and_no_address(desk: Desk) -> None:
    desk.dispatch.pictures = Album()
    part = {"type": "image_url", "image_url": {"url": "https://pictures.example/a.png"}}
    task = msgspec.structs.replace(desk.task(), messages=({"role": "user", "content": [part]},))
    seeing = msgspec.structs.replace(desk.model, reads=(Modality.IMAGE,))
    hub: Any = Names([model("service", engine="upstream", reads=(Modality.IMAGE,))])
    desk.dispatch.hub = hub
    desk.compute.scripts = [[gone()], words(5)]
    order = Order(Ticket(new_id("req")), desk.admin, seeing, task, name="best", task_for=lambda _: task)
    async with desk.dispatch.open(order) as call:
        async for _ in call:
            pass
        assert (await call.settle()).model_id == "service"
    for tried in desk.compute.tasks:
        assert isinstance(tried, ChatTask)
        assert tried.messages[0]["content"][0]["image_url"]["url"].startswith(DATA_URL_PREFIX)
    assert len(desk.compute.tasks) == 2


async def test_nothing_is_tried_once_something_was_sent(desk: Desk) -> None:
    desk.compute.scripts = [[TextDelta("w"), gone()], words(5)]
    with pytest.raises(Unavailable):
        await ask(desk, [model("other")])
    assert len(desk.compute.tasks) == 1
    # A whole answer sends nothing before its end, so there the next one is tried.
    desk.compute.tasks = []
    receipt = await ask(desk, [model("other")], task=desk.task(stream=False))
    assert receipt.model_id == "other"


async def test_the_last_failure_is_told_when_none_answers(desk: Desk) -> None:
    desk.compute.scripts = [[gone()], [gone()], [UpstreamFailed(model="third", reason="broke")]]
    with pytest.raises(UpstreamFailed, match="third"):
        await ask(desk, [model("other"), model("third")])
    (row,) = await desk.rows()
    assert (row.status, row.model, row.charged_nanos) == ("failed", "third", 0)
    assert (await desk.accounts.budget(desk.admin.key_id)).held_nanos == 0


async def test_the_reservation_covers_the_dearest(desk: Desk) -> None:
    await set_price(desk, "dear", DEAR)
    held: list[int] = []
    desk.compute.scripts = [words(1)]
    hub: Any = Names([model("dear")])
    desk.dispatch.hub = hub
    order = Order(Ticket(new_id("req")), desk.admin, desk.model, desk.task(), name="best")
    async with desk.dispatch.open(order) as call:
        held.append((await desk.accounts.budget(desk.admin.key_id)).held_nanos)
        async for _ in call:
            pass
        await call.settle()
    assert held[0] >= 20 * 1000, "twenty tokens at the dear model's price"


async def test_a_fallback_that_the_budget_does_not_cover_is_left_out(desk: Desk) -> None:
    await set_price(desk, "dear", DEAR)
    await set_price(desk, "cheap", CHEAP)
    who = await desk.customer(15_000)
    desk.compute.scripts = [[gone()], words(5)]
    receipt = await ask(desk, [model("dear"), model("cheap")], who=who)
    assert (receipt.model_id, receipt.price_nanos) == ("cheap", 53)
    poor = await desk.customer(100)
    with pytest.raises(InsufficientQuota):
        await ask(desk, [model("cheap")], who=poor)


@pytest.fixture
def upstream_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose service reads OpenAI's fields by itself, beside the echo that does not."""

    class Native(engine_defaults):
        speaks_openai = True

    known = {"echo": engine_defaults(), "upstream": Native()}
    monkeypatch.setattr("dayspring.dispatch.fallback.engine", known.__getitem__)


@pytest.mark.usefixtures("upstream_speaks")
async def test_what_cannot_do_the_same_is_passed_over(desk: Desk) -> None:
    desk.compute.scripts = [[gone()], words(1)]
    others = [model("embedder", abilities=(Ability.EMBEDDING,)), model("speaks-otherwise", engine="upstream")]
    assert (await ask(desk, [*others, model("other")])).model_id == "other"


@pytest.mark.usefixtures("upstream_speaks")
async def test_a_model_that_speaks_otherwise_gets_the_task_as_it_reads_it(desk: Desk) -> None:
    desk.compute.scripts = [[gone()], words(1)]
    hub: Any = Names([model("far", engine="upstream")])
    desk.dispatch.hub = hub
    read = desk.task("read again")
    order = Order(Ticket(new_id("req")), desk.admin, desk.model, desk.task(), name="best", task_for=lambda _: read)
    async with desk.dispatch.open(order) as call:
        async for _ in call:
            pass
        assert (await call.settle()).model_id == "far"
    assert desk.compute.tasks[1].messages == read.messages  # type: ignore[union-attr]


async def test_an_embedding_is_never_made_by_another_model(desk: Desk) -> None:
    desk.compute.scripts = [[gone()], words(1)]
    with pytest.raises(Unavailable):
        await ask(desk, [model("other")], task=EmbeddingTask(inputs=("a",)))
    assert len(desk.compute.tasks) == 1


async def test_no_time_left_is_no_time_for_another(desk: Desk) -> None:
    desk.dispatch.settings = desk.settings.model_copy(update={"request_timeout_s": 0.05})
    desk.places.stop = "step 1"
    desk.compute.scripts = [words(1)]
    with pytest.raises(TimedOut):
        await ask(desk, [model("other")])
    assert len(desk.compute.tasks) == 1


STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(TextDelta, st.just("t"), tokens=st.integers(0, 3)),
    st.just(ChoiceEnd("stop")),
    st.builds(Usage, st.integers(0, 60), st.integers(0, 20), st.integers(0, 80), upstream=st.sampled_from(["", "far"])),
    st.sampled_from([*FAILURES, WorkerDied(model="m"), InvalidRequest("no"), RuntimeError("told to")]),
)
PRICES = st.sampled_from([{}, PER_TOKEN, DEAR, CHEAP, {Unit.REQUEST: Rate(700)}])


class Plan(msgspec.Struct):
    scripts: list[list[Step]]
    prices: list[dict[Unit, Rate]]
    """Of the first model and its fallbacks."""
    stream: bool
    budget_nanos: int | None
    cancel_after: int | None
    """Turns of the loop."""


PLANS = st.builds(
    Plan,
    st.lists(st.lists(STEPS, max_size=4), min_size=1, max_size=5),
    st.lists(PRICES, min_size=1, max_size=4),
    st.booleans(),
    st.none() | st.integers(0, 40_000),
    st.none() | st.integers(0, 60),
)


async def play(desk: Desk, plan: Plan) -> None:
    before = len(await desk.rows())
    desk.receipts.clear()
    desk.compute.scripts, desk.compute.tasks = list(plan.scripts), []
    names = [desk.model.id, *(f"other-{index}" for index in range(1, len(plan.prices)))]
    for name, rates in zip(names, plan.prices, strict=True):
        await set_price(desk, name, rates)
    who = await desk.customer(plan.budget_nanos)
    task = desk.task(stream=plan.stream)
    asking = asyncio.create_task(ask(desk, [model(name) for name in names[1:]], who=who, task=task))
    receipt = await outcome(asking, plan.cancel_after, RuntimeError)
    rows = await settled(desk, who, plan.budget_nanos, before)
    # Each model once, and once more for each worker that died.
    assert len(desk.compute.tasks) <= 2 * len(names)
    if receipt is not None:
        (row,) = rows
        assert (row.status, row.model) == ("completed", receipt.model_id)
        rates = plan.prices[names.index(receipt.model_id)]
        cached = min(receipt.usage.cached_tokens, receipt.usage.input_tokens)
        per_input = rates.get(Unit.INPUT_TOKEN, Rate(0))
        most = per_input.of(receipt.usage.input_tokens - cached) + rates.get(Unit.CACHED_TOKEN, per_input).of(cached)
        most += rates.get(Unit.OUTPUT_TOKEN, Rate(0)).of(receipt.usage.output_tokens)
        most += rates.get(Unit.REQUEST, Rate(0)).of(1)
        assert receipt.price_nanos <= most, "never more than the model that answered asks for"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS)
def test_the_books_agree_whatever_fails(bench: tuple[asyncio.Runner, Desk], plan: Plan) -> None:
    runner, desk = bench
    runner.run(play(desk, plan))
    assert runner.run(desk.ledger.verify()) == []
