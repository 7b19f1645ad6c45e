"""Whatever an engine says, a reader does and a client cancels: the books agree and nothing stays held."""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from dispatch_desk import PER_TOKEN, Desk, HeldDatabase, Step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dayspring.contracts.events import ChoiceEnd, Started, TextDelta, ToolCallDelta, Usage
from dayspring.contracts.tasks import CompletionTask, EmbeddingTask, Sampling, Task
from dayspring.core.errors import DayspringError, InvalidRequest, PromptOverLimit, WorkerDied
from dayspring.core.money import Rate, Unit
from dayspring.dispatch.values import Receipt

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


@pytest.fixture(scope="module")
def bench(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Desk]]:
    """One desk and its loop for all examples: requests of earlier ones must not disturb later ones either."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copyfile(migrated_sqlite, folder / "desk.db")
    db = HeldDatabase.open(f"sqlite:///{folder / 'desk.db'}")
    with asyncio.Runner() as runner:
        yield runner, runner.run(Desk(db, home=folder).open())
    db.close()


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
    if plan.cancel_after is not None:
        for _ in range(plan.cancel_after):
            await asyncio.sleep(0)
        asking.cancel()
    receipt: Receipt | None = None
    with contextlib.suppress(asyncio.CancelledError, DayspringError, RuntimeError, ValueError):
        receipt = await asking
    rows = (await desk.rows())[before:]
    budget = await desk.accounts.budget(who.key_id)
    assert budget.held_nanos == 0
    assert plan.budget_nanos is None or budget.spent_nanos <= plan.budget_nanos
    assert len(rows) <= 1  # none where nothing was ever reserved
    assert budget.spent_nanos == sum(row.charged_nanos or 0 for row in rows)
    assert len(desk.receipts) <= 1
    if receipt is not None:
        assert [row.status for row in rows] == ["completed"]
        assert desk.receipts == [receipt]
        assert budget.spent_nanos == receipt.price_nanos
    for row in rows:
        assert row.status != "failed" or row.charged_nanos == 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=PLANS)
def test_the_books_agree_after_anything(bench: tuple[asyncio.Runner, Desk], plan: Plan) -> None:
    runner, desk = bench
    runner.run(play(desk, plan))
