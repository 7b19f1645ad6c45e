"""What a request reserves, what it is charged, and what a refusal says."""

import re
from collections.abc import Sequence

import pytest
from dispatch_desk import CONTEXT, INPUT, OUTPUT, PER_TOKEN, Desk, Step, words

from dayspring.compute.status import Idle
from dayspring.contracts.events import ChoiceEnd, Embedding, Started, TextDelta, Usage
from dayspring.contracts.tasks import CompletionTask, EmbeddingTask, Sampling, Task
from dayspring.core.errors import Defect, InsufficientQuota, PromptOverLimit, TimedOut, Unavailable, WorkerDied
from dayspring.core.money import Rate, Unit

LONG = "word " * 100


async def test_a_request_is_charged_by_its_usage_and_its_cost_is_measured(desk: Desk) -> None:
    desk.compute.busy_ns = 2_000_000_001
    receipt = await desk.ask()
    assert receipt.price_nanos == 3 * INPUT + 5 * OUTPUT
    assert receipt.compute_cost_nanos == 10_001  # 5 000 a second, rounded up
    assert receipt.margin_nanos == receipt.price_nanos - 10_001
    assert desk.receipts == [receipt]
    await desk.rows()


async def test_a_free_model_needs_no_budget(desk: Desk) -> None:
    await desk.price({})
    who = await desk.customer(0)
    assert (await desk.ask(who=who)).price_nanos == 0
    await desk.rows()


async def test_the_price_of_the_beginning_counts_to_the_end(desk: Desk) -> None:
    async def dearer(event: object) -> None:
        if isinstance(event, TextDelta):
            await desk.price({Unit.OUTPUT_TOKEN: Rate(10_000)})

    assert (await desk.ask(each=dearer)).price_nanos == 3 * INPUT + 5 * OUTPUT
    assert (await desk.ask()).price_nanos == 50_000
    await desk.rows()


async def test_cached_tokens_are_never_more_than_the_input(desk: Desk) -> None:
    await desk.price(PER_TOKEN | {Unit.CACHED_TOKEN: Rate(1)})
    desk.compute.scripts = [[TextDelta("a"), ChoiceEnd("stop"), Usage(3, 1, 7)]]
    assert (await desk.ask()).price_nanos == 3 + OUTPUT
    await desk.rows()


async def test_what_an_upstream_takes_beyond_the_reservation_is_the_operators_loss(desk: Desk) -> None:
    await desk.price({Unit.OUTPUT_TOKEN: Rate(70)}, kind="upstream", target="far")
    desk.compute.scripts = [[TextDelta("a"), ChoiceEnd("stop"), Usage(3, 50, upstream="far")]]
    receipt = await desk.ask(desk.task(max_tokens=2))
    reserved = receipt.price_nanos
    assert receipt.excess_nanos == 3 * INPUT + 50 * OUTPUT - reserved > 0
    assert receipt.upstream_cost_nanos == 3500
    (row,) = await desk.rows()
    assert row.excess_nanos == receipt.excess_nanos


async def test_an_answer_cut_short_has_its_upstream_bill(desk: Desk) -> None:
    await desk.price({Unit.OUTPUT_TOKEN: Rate(70), Unit.INPUT_TOKEN: Rate(10)}, kind="upstream", target="far")
    desk.compute.scripts = [[Started(3, upstream="far"), TextDelta("a", tokens=2), "", TextDelta("b")]]
    await desk.cancelled_at("step 3")
    (row,) = await desk.rows()
    assert (row.status, row.upstream, row.upstream_cost_nanos) == ("cancelled", "far", 3 * 10 + 2 * 70)
    assert row.charged_nanos == 3 * INPUT + 2 * OUTPUT


def fitting(refusal: InsufficientQuota, field: str) -> int:
    found = re.search(rf"{field} of at most (\d+)", refusal.message)
    assert found, refusal.message
    return int(found[1])


@pytest.mark.parametrize(("n", "asked"), [(1, None), (1, 500), (4, None), (4, 5000)])
async def test_a_refusal_names_the_largest_maximum_that_fits(desk: Desk, n: int, asked: int | None) -> None:
    desk.compute.tokens = 100
    desk.compute.scripts = [words(1)]
    who = await desk.customer(100 * INPUT + 4 * 30 * OUTPUT)
    with pytest.raises(InsufficientQuota) as refused:
        await desk.ask(desk.task(LONG, n=n, max_tokens=asked), who)
    fits = fitting(refused.value, "max_completion_tokens")
    assert fits == 120 // n
    with pytest.raises(InsufficientQuota):
        await desk.ask(desk.task(LONG, n=n, max_tokens=fits + 1), who)
    await desk.ask(desk.task(LONG, n=n, max_tokens=fits), who)
    await desk.rows()


async def test_a_refused_completion_names_its_own_field(desk: Desk) -> None:
    who = await desk.customer(50 * OUTPUT)
    task = CompletionTask(prompts=("a", "b"), sampling=Sampling(max_tokens=400))
    with pytest.raises(InsufficientQuota) as refused:
        await desk.ask(task, who)
    assert fitting(refused.value, "max_tokens") == (50 * OUTPUT - 3 * INPUT) // OUTPUT // 2


@pytest.mark.parametrize("task", [None, EmbeddingTask(inputs=(LONG,))])
async def test_an_empty_budget_is_refused_without_work(desk: Desk, task: Task | None) -> None:
    who = await desk.customer(INPUT - 1)
    with pytest.raises(InsufficientQuota):
        await desk.ask(task, who)
    assert (desk.compute.counted, desk.compute.tasks) == (0, [])
    assert await desk.rows() == []


async def test_a_flat_price_is_not_counted_for(desk: Desk) -> None:
    await desk.price({Unit.REQUEST: Rate(500)})
    who = await desk.customer(600)
    assert (await desk.ask(who=who)).price_nanos == 500
    with pytest.raises(InsufficientQuota):
        await desk.ask(who=who)
    assert desk.compute.counted == 0
    await desk.rows()


async def test_embeddings_are_charged_by_their_input(desk: Desk) -> None:
    desk.compute.scripts = [[Embedding(0, b"\0" * 8), Usage(9)]]
    receipt = await desk.ask(EmbeddingTask(inputs=("text",)))
    assert (receipt.price_nanos, receipt.usage.output_tokens) == (9 * INPUT, 0)
    (row,) = await desk.rows()
    assert row.task == "embedding"


async def test_a_prompt_longer_than_reserved_is_reserved_again_and_runs(desk: Desk) -> None:
    desk.compute.scripts = [[PromptOverLimit(700)], [TextDelta("a"), ChoiceEnd("stop"), Usage(700, 1)]]
    assert (await desk.ask()).price_nanos == 700 * INPUT + OUTPUT
    first, second = desk.compute.tasks
    assert (first.prompt_limit or 0) < 700 == second.prompt_limit
    await desk.rows()


async def test_a_prompt_that_the_budget_does_not_cover_when_counted_is_refused(desk: Desk) -> None:
    desk.compute.scripts = [[PromptOverLimit(900)]]
    who = await desk.customer(8000)
    with pytest.raises(InsufficientQuota):
        await desk.ask(who=who)
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos) == ("failed", 0)


async def test_an_engine_that_never_agrees_on_a_prompt_is_a_defect(desk: Desk) -> None:
    desk.compute.scripts = [[PromptOverLimit(5)]]
    with pytest.raises(Defect):
        await desk.ask()
    await desk.rows()


async def test_a_worker_that_dies_first_is_replaced_and_charged_once(desk: Desk) -> None:
    desk.compute.scripts = [[Started(900, 800), WorkerDied(model="m")], words(2)]
    receipt = await desk.ask()
    assert receipt.price_nanos == 3 * INPUT + 2 * OUTPUT
    assert receipt.busy_ns == 2_000  # both cost
    await desk.rows()


async def test_a_client_that_leaves_the_second_try_does_not_pay_for_the_first(desk: Desk) -> None:
    desk.compute.scripts = [[Started(900), "", WorkerDied(model="m")], ["", "", "", *words(2)]]
    await desk.cancelled_at("step 4")
    (row,) = await desk.rows()
    assert (row.status, row.input_tokens, row.charged_nanos) == ("cancelled", 0, 0)


async def test_a_worker_that_dies_after_something_was_sent_ends_the_stream(desk: Desk) -> None:
    desk.compute.scripts = [[TextDelta("a"), WorkerDied(model="m")], words(2)]
    with pytest.raises(WorkerDied):
        await desk.ask()
    (row,) = await desk.rows()
    assert (row.status, row.charged_nanos, len(desk.compute.tasks)) == ("failed", 0, 1)


async def test_a_whole_answer_survives_its_worker_also_in_the_middle(desk: Desk) -> None:
    desk.compute.scripts = [[TextDelta("lost "), WorkerDied(model="m")], words(2)]
    said: list[str] = []

    async def listen(event: object) -> None:
        if isinstance(event, TextDelta):
            said.append(event.text)

    receipt = await desk.ask(desk.task(stream=False), each=listen)
    assert said == ["w ", "w "]
    assert receipt.usage.output_tokens == 2
    await desk.rows()


async def test_a_second_death_is_told(desk: Desk) -> None:
    desk.compute.scripts = [[WorkerDied(model="m")]]
    with pytest.raises(WorkerDied):
        await desk.ask(desk.task(stream=False))
    assert len(desk.compute.tasks) == 2
    await desk.rows()


@pytest.mark.parametrize("dies_first", [True, False])
async def test_a_long_prompt_and_a_death_each_have_their_second_try(desk: Desk, dies_first: bool) -> None:
    faults: list[Sequence[Step]] = [[WorkerDied(model="m")], [PromptOverLimit(700)]]
    desk.compute.scripts = [*(faults if dies_first else reversed(faults)), words(2)]
    assert (await desk.ask()).usage.output_tokens == 2
    await desk.rows()


@pytest.mark.parametrize("place", ["enter", "step 3", "count"])
async def test_a_request_has_one_time_limit_wherever_it_waits(desk: Desk, place: str) -> None:
    desk.dispatch.settings = desk.settings.model_copy(update={"request_timeout_s": 0.05})
    desk.places.stop = place
    if place == "count":
        await desk.accounts.set_budget(desk.admin.key_id, 3 * INPUT + 20 * OUTPUT)
    with pytest.raises(TimedOut, match="DAYSPRING_REQUEST_TIMEOUT_S"):
        await desk.ask()
    for row in await desk.rows():
        assert (row.status, row.charged_nanos) == ("failed", 0)


async def test_a_model_without_a_known_context_has_a_bound(desk: Desk) -> None:
    desk.model = type(desk.model)(id="m", engine="upstream", abilities=desk.model.abilities)
    who = await desk.customer(32_768 * OUTPUT)
    with pytest.raises(InsufficientQuota) as refused:
        await desk.ask(desk.task(max_tokens=None), who)
    assert CONTEXT < fitting(refused.value, "max_completion_tokens") < 32_768


async def test_idle_time_that_could_not_be_booked_is_booked_once_later(desk: Desk) -> None:
    desk.compute.idle = [Idle("cpu", "m", 10**9)]
    desk.db.broken = Unavailable("The database cannot be written now", "Try again.")
    with pytest.raises(Unavailable):
        await desk.dispatch.book_idle()
    desk.db.broken = None
    await desk.dispatch.book_idle()
    await desk.dispatch.book_idle()
    assert (await desk.ledger.balances())["idle-cost:cpu/m"] == 5_000
