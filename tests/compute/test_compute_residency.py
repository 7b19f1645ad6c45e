"""What is loaded when: eviction, pins, idle unloading, back-off, and the end of processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from compute_models import MIB, answer, chat, echo

from dayspring.compute.service import Compute
from dayspring.core.errors import OutOfMemory, Unavailable, WorkerDied
from dayspring.testing.clock import FakeClock

SIZE = 100 * MIB
"""More than an echo worker really takes, so that its measured size makes room rather than trouble."""


def loaded(compute: Compute) -> set[str]:
    return {worker.model for worker in compute.status().workers if worker.state == "ready"}


@pytest.fixture
async def measured(make_compute: Callable[..., Compute]) -> int:
    """Resident bytes of an echo worker on this machine."""
    compute = make_compute()
    await compute.load(echo())
    return compute.status().workers[0].memory_bytes


async def test_the_least_recently_used_model_makes_room(make_compute: Callable[..., Compute], measured: int) -> None:
    clock = FakeClock()
    compute = make_compute(clock, memory_bytes=3 * measured + measured // 2)
    for name in ("a", "b", "c"):
        clock.advance(1)
        await compute.load(echo(name, memory_bytes=measured))
    clock.advance(1)
    await answer(compute, echo("a", memory_bytes=measured), chat())
    clock.advance(1)
    await compute.load(echo("d", memory_bytes=measured))
    assert loaded(compute) == {"a", "c", "d"}


async def test_a_pinned_model_and_one_in_use_are_not_evicted(
    make_compute: Callable[..., Compute], measured: int
) -> None:
    compute = make_compute(memory_bytes=2 * measured + measured // 2)
    compute.pin("pinned")
    await compute.load(echo("pinned", memory_bytes=measured))
    async with compute.run(echo("used", memory_bytes=measured, delay_s=0.01), chat("a " * 1000)) as run:
        await anext(aiter(run))
        with pytest.raises(OutOfMemory, match="third") as caught:
            await compute.load(echo("third", memory_bytes=measured))
        assert caught.value.status == 503
        assert loaded(compute) == {"pinned", "used"}
    await compute.load(echo("third", memory_bytes=measured))
    assert loaded(compute) == {"pinned", "third"}
    compute.pin("pinned", pinned=False)
    await compute.load(echo("fourth", memory_bytes=measured))
    await compute.load(echo("fifth", memory_bytes=measured))
    assert loaded(compute) == {"fourth", "fifth"}


async def test_a_model_larger_than_the_budget_is_refused_with_its_size(make_compute: Callable[..., Compute]) -> None:
    compute = make_compute(memory_bytes=SIZE)
    with pytest.raises(OutOfMemory, match="needs 200 MiB and 100 MiB"):
        await compute.load(echo(memory_bytes=2 * SIZE))


async def test_the_estimate_gives_way_to_the_measured_size(make_compute: Callable[..., Compute]) -> None:
    compute = make_compute(memory_bytes=10 * SIZE)
    await compute.load(echo(memory_bytes=9 * SIZE))
    (worker,) = compute.status().workers
    assert 5 * MIB < worker.memory_bytes < SIZE


async def test_a_model_nobody_uses_is_unloaded_after_its_time_and_a_pinned_one_is_not(
    make_compute: Callable[..., Compute],
) -> None:
    clock = FakeClock()
    compute = make_compute(clock, idle_unload_s=60)
    compute.pin("kept")
    await compute.load(echo("idle"))
    await compute.load(echo("kept"))
    clock.advance(59)
    await compute.unload_idle()
    assert loaded(compute) == {"idle", "kept"}
    clock.advance(1)
    await compute.unload_idle()
    assert loaded(compute) == {"kept"}


async def test_a_start_that_fails_is_tried_again_after_a_back_off_that_doubles(
    make_compute: Callable[..., Compute],
) -> None:
    clock = FakeClock()
    compute = make_compute(clock)
    broken = echo("broken", crash_load=True)
    for wait_s in (0.5, 1, 2):
        with pytest.raises(Unavailable, match=r"ended with status 3.*dayspring doctor") as caught:
            await compute.load(broken)
        assert caught.value.retry_after_s == wait_s
        clock.advance(wait_s / 2)
        with pytest.raises(Unavailable, match="ended with status 3") as caught:
            await compute.load(broken)  # not tried: the clock stands still and nothing is counted
        assert caught.value.retry_after_s == pytest.approx(wait_s / 2, abs=0.06)
        assert compute.status().workers == ()
        clock.advance(wait_s / 2)
    assert compute.status().failures[0].failures == 3
    await compute.load(echo("broken"))
    assert compute.status().failures == ()


async def test_the_reason_of_a_failed_start_is_the_engines_own(compute: Compute) -> None:
    with pytest.raises(Unavailable, match="'echo' was refused: it is too blue"):
        await compute.load(echo(refuse_load="it is too blue"))


async def test_a_worker_that_is_not_ready_in_time_is_ended(make_compute: Callable[..., Compute]) -> None:
    compute = make_compute(worker_start_timeout_s=0.5)
    with pytest.raises(Unavailable, match=r"not ready after 0\.5 s"):
        await compute.load(echo(load_s=60))
    assert compute.status().workers == ()


async def test_a_killed_worker_fails_its_calls_and_the_next_request_starts_another(compute: Compute) -> None:
    model = echo(delay_s=0.01)
    with pytest.raises(WorkerDied):  # noqa: PT012 - the block is the call
        async with compute.run(model, chat("a " * 1000)) as run:
            async for _ in run:
                os.kill(compute.status().workers[0].pid, signal.SIGKILL)
    assert await answer(compute, model, chat("b")) == "b"
    assert compute.take_idle()


async def test_closing_ends_every_worker(make_compute: Callable[..., Compute]) -> None:
    compute = make_compute()
    await asyncio.gather(compute.load(echo("a")), compute.load(echo("b")))
    pids = [worker.pid for worker in compute.status().workers]
    await compute.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(Unavailable, match="stopping"):
        await compute.load(echo())


_SERVER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from compute_models import CPU, echo
from dayspring.compute.service import Compute
from dayspring.core.settings import Settings

async def main():
    compute = Compute(Settings(home=Path(sys.argv[1]), memory_bytes=10 << 30), devices=[CPU])
    await compute.load(echo())
    print(compute.status().workers[0].pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_server_that_is_killed_leaves_no_worker(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SERVER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        worker = int(server.stdout.readline())
        os.kill(worker, 0)
        server.kill()
        server.wait()
    deadline = time.monotonic() + 5
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    """Not gone, and not merely waiting to be collected by whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
