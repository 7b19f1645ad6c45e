"""What users of compute see: answers, metering, one load, cancellation."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from compute_models import answer, chat, echo

from dayspring.compute.background import Background
from dayspring.compute.meter import DeviceMeter
from dayspring.compute.service import Compute
from dayspring.compute.worker_process import WorkerProcess
from dayspring.contracts.clock import SystemClock
from dayspring.contracts.events import Started, TextDelta, Usage
from dayspring.contracts.tasks import ChatTask
from dayspring.core.errors import Defect, InvalidRequest, NotFound, PromptOverLimit, WorkerDied


async def test_an_echo_model_answers_through_a_real_worker_process(compute: Compute) -> None:
    async with compute.run(echo(), chat("one two three")) as run:
        assert run.device == "cpu"
        events = [event async for event in run]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "one two three"
    assert events[-1] == Usage(3, 3, fingerprint="echo")
    assert run.busy_ns > 0
    (worker,) = compute.status().workers
    assert (worker.model, worker.state, worker.running) == ("echo", "ready", 0)
    assert worker.pid > 0
    assert worker.memory_bytes > 1 << 20


async def test_models_asked_for_at_the_same_time_load_once(compute: Compute) -> None:
    model = echo(load_s=0.2)
    texts = await asyncio.gather(*(answer(compute, model, chat(f"call {n}")) for n in range(6)))
    assert texts == [f"call {n}" for n in range(6)]
    assert len(compute.status().workers) == 1


async def test_a_waiter_who_goes_does_not_stop_the_load_for_others(compute: Compute) -> None:
    model = echo(load_s=0.3)
    first = asyncio.create_task(answer(compute, model, chat()))
    await asyncio.sleep(0)
    second = asyncio.create_task(answer(compute, model, chat()))
    await asyncio.sleep(0)
    (loading,) = compute.status().workers
    assert (loading.state, loading.running) == ("loading", 2)
    first.cancel()
    assert await second == "one two three"
    assert compute.status().workers[0].running == 0


async def test_leaving_the_run_stops_the_work_at_once(compute: Compute) -> None:
    model = echo(delay_s=0.01, parallel=1)
    await compute.load(model)
    async with compute.run(model, chat("word " * 10_000)) as run:
        async for event in run:
            if isinstance(event, TextDelta):
                break
        started = time.monotonic()
    assert time.monotonic() - started < 5, "the answer would take 100 s"
    # With one slot, the next call can only run once the first has really stopped.
    assert await answer(compute, model, chat("next")) == "next"


async def test_time_spent_waiting_for_a_slot_is_not_metered(compute: Compute) -> None:
    model = echo(delay_s=0.02, parallel=1)
    await compute.load(model)

    async def timed(text: str) -> tuple[int, int]:
        started = time.monotonic_ns()
        async with compute.run(model, chat(text)) as run:
            async for _ in run:
                pass
        return run.busy_ns, time.monotonic_ns() - started

    results = await asyncio.gather(timed("a " * 20), timed("b " * 2))
    (_, _), (busy_ns, wall_ns) = results
    assert busy_ns < wall_ns / 2
    device = compute.status().devices[0]
    assert sum(busy for busy, _ in results) == device.busy_ns


async def test_shares_of_two_models_on_one_device_add_up_to_its_busy_time(compute: Compute) -> None:
    one, two = echo("one", delay_s=0.005), echo("two", delay_s=0.005)
    await asyncio.gather(compute.load(one), compute.load(two))
    busy: list[int] = []

    async def use(model: object, text: str) -> None:
        async with compute.run(model, chat(text)) as run:  # type: ignore[arg-type]
            async for _ in run:
                pass
        busy.append(run.busy_ns)

    await asyncio.gather(use(one, "a " * 20), use(two, "b " * 10), use(one, "c " * 5))
    device = compute.status().devices[0]
    assert sum(busy) == device.busy_ns
    idle = compute.take_idle()
    assert {i.model for i in idle} == {"one", "two"}
    loaded_ns = compute.status().devices[0].loaded_ns
    rest = sum(i.ns for i in compute.take_idle())
    assert sum(busy) + sum(i.ns for i in idle) <= loaded_ns + rest


async def test_errors_of_the_engine_keep_their_class_across_the_process_border(compute: Compute) -> None:
    task = chat("one two three")
    with pytest.raises(PromptOverLimit) as caught:
        await answer(compute, echo(), ChatTask(task.messages, prompt_limit=2))
    assert caught.value.input_tokens == 3


async def test_tokens_are_counted_as_the_run_counts_them(compute: Compute) -> None:
    assert await compute.count_tokens(echo(), chat("a b c d")) == 4


async def test_an_option_the_engine_does_not_know_is_refused_before_anything_starts(compute: Compute) -> None:
    with pytest.raises(InvalidRequest, match="nonsense"):
        await answer(compute, echo(nonsense=1), chat())
    assert compute.status().workers == ()


async def test_a_worker_that_dies_fails_all_its_calls_and_starts_again_on_the_next_request(compute: Compute) -> None:
    model = echo(die_after=3, delay_s=0.01)
    long = asyncio.create_task(answer(compute, model, chat("a b c d e f")))
    with pytest.raises(WorkerDied):
        await answer(compute, model, chat("a b c d e f"))
    with pytest.raises(WorkerDied):
        await long
    assert compute.status().workers == ()
    assert await answer(compute, model, chat("a b")) == "a b"


async def test_a_model_whose_facts_changed_is_loaded_anew_and_the_old_one_finishes(compute: Compute) -> None:
    old, new = echo(delay_s=0.02), echo(delay_s=0)
    async with compute.run(old, chat("a b c d e f")) as run:
        events = run.__aiter__()
        first = await anext(events)
        assert isinstance(first, TextDelta | Started)
        assert await answer(compute, new, chat("quick")) == "quick"
        states = sorted(worker.state for worker in compute.status().workers)
        assert states == ["closing", "ready"]
        assert [event async for event in events][-1] == Usage(6, 6, fingerprint="echo")


async def test_unloading_by_hand_refuses_a_model_in_use_and_one_that_is_not_loaded(compute: Compute) -> None:
    with pytest.raises(NotFound):
        await compute.unload("echo")
    await compute.load(echo())
    await compute.unload("echo")
    assert compute.status().workers == ()


async def test_the_workers_output_goes_to_its_own_log(make_compute: Callable[..., Compute], tmp_path: Path) -> None:
    compute = make_compute()
    with pytest.raises(Defect):
        await answer(compute, echo("my/model", fail_after=1), chat())
    await compute.close()
    log = tmp_path / "logs" / "worker-my_model-1.log"
    assert "RuntimeError: told to fail" in log.read_text()


async def test_a_reader_that_stops_holds_the_worker_back_rather_than_filling_memory(compute: Compute) -> None:
    text = "w " * 20_000
    async with compute.run(echo(), chat(text)) as run:
        events = run.__aiter__()
        await anext(events)
        await asyncio.sleep(0.3)  # not to synchronise: to give the worker time to run ahead, if it would
        assert len(events._events) < 8_000  # type: ignore[attr-defined]
        rest = [event async for event in events]
    assert sum(e.tokens for e in rest if isinstance(e, TextDelta)) == 20_000 - 1


async def test_closing_the_room_waits_for_a_process_that_is_just_dying(tmp_path: Path) -> None:
    background = Background()
    worker = WorkerProcess("echo", DeviceMeter(SystemClock()), background, tmp_path / "worker.log")
    await worker._spawn()
    await background.close()
    with pytest.raises(ProcessLookupError):  # ended, and waited for
        os.kill(worker.pid, 0)
