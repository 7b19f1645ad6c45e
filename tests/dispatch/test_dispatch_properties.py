"""Whatever an engine says, a reader does and a client cancels: the books agree and nothing stays held."""

import asyncio

import msgspec
from dispatch_desk import PER_TOKEN, Desk, Step, outcome, settled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dayspring.contracts.events import ChoiceEnd, Started, TextDelta, ToolCallDelta, Usage
from dayspring.contracts.tasks import CompletionTask, EmbeddingTask, Sampling, Task
from dayspring.core.errors import InvalidRequest, PromptOverLimit, WorkerDied
from dayspring.core.money import Rate, Unit

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(TextDelta, st.just("t"), tokens=st.integers(0, 3)),
    st.builds(ToolCallDelta, st.just("a"), tokens=st.integers(0, 2)),
    st.builds(Started, st.integers(0, 50), st.just(0)),
    st.just(ChoiceEnd("stop")),
    st.builds(Usage, st.integers(0, 60), st.integers(0, 20), st.integers(0, 80), upstream=st.sampled_from(["", "far"])),
    st.builds(WorkerDied, model=st.just("m")),
    st.builds(PromptOverLimit, st.integers(1, 1200)),
    st.just(InvalidRequest("no")),
    st.just(RuntimeError("told to fail")),
    st.just(""),
)
TASKS: st.SearchStrategy[Task] = st.one_of(
    st.builds(
        CompletionTask,
        st.just(("hi",)),
        st.builds(Sampling, max_tokens=st.none() | st.integers(0, 30)),
        st.integers(1, 3),
        stream=st.booleans(),
    ),
    st.just(EmbeddingTask(inputs=("a", "b"))),
)
PRICES = st.sampled_from(
    [
        {},
        PER_TOKEN,
        {Unit.REQUEST: Rate(700)},
        PER_TOKEN | {Unit.CACHED_TOKEN: Rate(3)},
        {Unit.DEVICE_SECOND: Rate(9, 10**9)},
    ]
)


class Plan(msgspec.Struct):
    scripts: list[list[Step]]
    task: Task
    price: dict[Unit, Rate]
    budget_nanos: int | None
    cancel_after: int | None
    """Turns of the loop."""
    reader_fails_at: int | None
    """Events."""


PLANS = st.builds(
    Plan,
    st.lists(st.lists(STEPS, max_size=6), min_size=1, max_size=3),
    TASKS,
    PRICES,
    st.none() | st.integers(0, 20_000),
    st.none() | st.integers(0, 40),
    st.none() | st.integers(1, 4),
)


async def play(desk: Desk, plan: Plan) -> None:
    before = len(await desk.rows())
    desk.receipts.clear()
    desk.compute.scripts, desk.compute.tasks = list(plan.scripts), []
    await desk.price(plan.price)
    who = await desk.customer(plan.budget_nanos)
    seen = 0

    async def read(_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == plan.reader_fails_at:
            raise ValueError("told to fail")

    asking = asyncio.create_task(desk.ask(plan.task, who, each=read))
    receipt = await outcome(asking, plan.cancel_after, RuntimeError, ValueError)
    rows = await settled(desk, who, plan.budget_nanos, before)
    assert len(desk.receipts) <= 1
    if receipt is not None:
        assert [row.status for row in rows] == ["completed"]
        assert desk.receipts == [receipt]
        assert rows[0].charged_nanos == receipt.price_nanos


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS)
def test_the_books_agree_after_anything(bench: tuple[asyncio.Runner, Desk], plan: Plan) -> None:
    runner, desk = bench
    runner.run(play(desk, plan))
