"""Jobs in one process: what they go through, who sees them, what a stop leaves."""

import asyncio
from pathlib import Path

import pytest
from jobs_house import ADMIN, MANAGER, OWNER, STRANGER, ended, jobs_room, new
from sqlalchemy import Connection, update

from dayspring.core.errors import Conflict, InvalidRequest, NotFound, TimedOut
from dayspring.jobs import records
from dayspring.jobs.context import JobContext
from dayspring.jobs.holding import JobHolder
from dayspring.jobs.runs import MAX_ATTEMPTS
from dayspring.store.database import Database


async def test_a_job_runs_its_steps_and_tells_its_progress(tmp_path: Path, database: Database) -> None:
    seen = []

    async def work(context: JobContext) -> None:
        for number in range(context.job.arguments["steps"]):

            async def step(number: int = number) -> int:
                seen.append(number)
                return number * 10

            assert await context.step(f"step-{number}", step, int) == number * 10
            await context.progress(number + 1, 3, f"step {number}")

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        made = await jobs.start(new("job_1", steps=3))
        assert made.state == "queued"
        again = await jobs.start(new("job_1", steps=3))
        assert again.id == made.id
        job = await ended(jobs, "job_1")
        events = [event async for event in jobs.events(OWNER, "job_1")]
    assert seen == [0, 1, 2]
    assert job.state == "completed"
    assert (job.progress.done, job.progress.total) == (3, 3)
    assert job.started_at_ns is not None
    assert job.finished_at_ns is not None
    states = [event.data["status"] for event in events if event.type == "state"]
    assert states == ["queued", "running", "completed"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-2].data == {"done": 3, "total": 3}


async def test_a_failure_has_its_reason_and_a_retry_goes_on_from_the_step_that_failed(
    tmp_path: Path, database: Database
) -> None:
    ran = []
    broken = True

    async def work(context: JobContext) -> None:
        async def first() -> str:
            ran.append("first")
            return "a"

        async def second() -> str:
            ran.append("second")
            if broken:
                raise TimedOut("The second step", limit_s=1, setting="DAYSPRING_REQUEST_TIMEOUT_S")
            return "b"

        assert await context.step("first", first, str) + await context.step("second", second, str) == "ab"

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        await jobs.start(new("job_1"))
        job = await ended(jobs, "job_1")
        assert job.state == "failed"
        assert job.error is not None
        assert job.error.code == "timed_out"
        assert job.error.message.startswith("The second step took over 1 s.")
        broken = False
        again = await jobs.retry(OWNER, "job_1")
        assert (again.state, again.error, again.runs) == ("queued", None, 2)
        job = await ended(jobs, "job_1")
        with pytest.raises(Conflict):
            await jobs.retry(OWNER, "job_1")
    assert job.state == "completed"
    assert ran == ["first", "second", "second"]


async def test_a_fault_of_ours_is_named_by_the_job_alone(
    tmp_path: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def inside(context: JobContext) -> None:
        async def step() -> int:
            raise ValueError("a secret")

        await context.step("step", step, int)

    async def outside(context: JobContext) -> None:
        raise ValueError("a secret")

    async with jobs_room(tmp_path, database, {"inside": inside, "outside": outside}) as jobs:
        for kind in ("inside", "outside"):
            await jobs.start(new(f"job_{kind}", kind))
            job = await ended(jobs, f"job_{kind}")
            assert job.state == "failed"
            assert job.error is not None
            assert job.error.code == "internal_error"
            assert f"job_{kind}" in job.error.message
            assert "secret" not in job.error.message
    assert "a secret" in caplog.text


async def test_a_running_job_ends_when_asked_to(tmp_path: Path, database: Database) -> None:
    begun = asyncio.Event()

    async def work(context: JobContext) -> None:
        async def step() -> int:
            begun.set()
            await context.until_cancelled()
            return 1

        await context.step("step", step, int)
        context.check()

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        await jobs.start(new("job_1"))
        await begun.wait()
        asked = await jobs.cancel(OWNER, "job_1")
        assert asked.state in ("cancelling", "cancelled")
        assert (await ended(jobs, "job_1")).state == "cancelled"
        assert (await jobs.cancel(OWNER, "job_1")).state == "cancelled"


async def test_no_more_run_than_the_setting_says_and_a_waiting_one_is_cancelled_at_once(
    tmp_path: Path, database: Database
) -> None:
    running, most = 0, 0
    go = asyncio.Event()
    full = asyncio.Event()

    async def work(context: JobContext) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            full.set()
        await go.wait()
        running -= 1

    async with jobs_room(tmp_path, database, {"work": work}, jobs_concurrency=2) as jobs:
        for number in range(5):
            await jobs.start(new(f"job_{number}"))
        await full.wait()
        assert (await jobs.cancel(OWNER, "job_4")).state == "cancelled"
        go.set()
        states = [(await ended(jobs, f"job_{number}")).state for number in range(5)]
    assert states == ["completed"] * 4 + ["cancelled"]
    assert most == 2


async def test_a_stop_leaves_the_job_and_the_next_start_repeats_only_the_step_under_way(
    tmp_path: Path, database: Database
) -> None:
    ran = []
    begun = asyncio.Event()
    stopped = []

    async def work(context: JobContext) -> None:
        async def first() -> int:
            ran.append("first")
            return 1

        async def second() -> int:
            ran.append("second")
            begun.set()
            if len(ran) == 2:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    stopped.append(True)
                    raise
            return 2

        await context.step("first", first, int)
        await context.step("second", second, int)

    async with jobs_room(tmp_path, database, {"work": work}, shutdown_grace_s=0) as jobs:
        await jobs.start(new("job_1"))
        await begun.wait()
    assert stopped == [True]
    left = await database.read(lambda connection: records.find(connection, "job_1"))
    assert left is not None
    assert left.state == "running"
    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        job = await ended(jobs, "job_1")
    assert job.state == "completed"
    assert ran == ["first", "second", "second"]


async def test_a_job_that_nothing_was_told_of_is_taken_up_at_the_next_start(tmp_path: Path, database: Database) -> None:
    """The death between our table's commit and DBOS's."""
    ran = []

    async def work(context: JobContext) -> None:
        ran.append(context.id)

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        await database.write(lambda connection: jobs.add(connection, new("job_1")))
    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        assert (await ended(jobs, "job_1")).state == "completed"
    assert ran == ["job_1"]


async def test_a_job_whose_process_dies_each_time_is_failed_with_that_reason(
    tmp_path: Path, database: Database
) -> None:
    ran = []

    async def work(context: JobContext) -> None:
        ran.append(context.id)

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        await database.write(lambda connection: jobs.add(connection, new("job_1")))
        for _ in range(MAX_ATTEMPTS):
            await database.write(lambda connection: records.take_up(connection, "job_1", 1))
        jobs.wake()
        job = await ended(jobs, "job_1")
    assert job.state == "failed"
    assert job.error is not None
    assert f"ended {MAX_ATTEMPTS} times" in job.error.message
    assert ran == []


async def test_progress_makes_earlier_deaths_count_no_more(tmp_path: Path, database: Database) -> None:
    async def work(context: JobContext) -> None:
        async def step() -> int:
            return 1

        await context.step("step", step, int)

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        await database.write(lambda connection: jobs.add(connection, new("job_1")))
        for _ in range(MAX_ATTEMPTS - 1):
            await database.write(lambda connection: records.take_up(connection, "job_1", 1))
        jobs.wake()
        job = await ended(jobs, "job_1")
    assert (job.state, job.attempts) == ("completed", 0)


async def test_a_kind_that_this_version_does_not_know_fails_with_that_reason(
    tmp_path: Path, database: Database
) -> None:
    async def work(context: JobContext) -> None: ...

    async with jobs_room(tmp_path, database, {"old": work}) as jobs:
        await database.write(lambda connection: jobs.add(connection, new("job_1", "old")))
        with pytest.raises(InvalidRequest):
            await jobs.start(new("job_2", "none"))
    async with jobs_room(tmp_path, database, {}) as jobs:
        job = await ended(jobs, "job_1")
    assert job.state == "failed"
    assert job.error is not None
    assert "'old'" in job.error.message


async def test_a_job_is_seen_by_its_project_its_manager_and_the_administrator_alone(
    tmp_path: Path, database: Database
) -> None:
    async def work(context: JobContext) -> None: ...

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        await jobs.start(new("job_1"))
        await ended(jobs, "job_1")
        for verb in (jobs.get, jobs.cancel, jobs.retry):
            with pytest.raises(NotFound) as theirs:
                await verb(STRANGER, "job_1")
            with pytest.raises(NotFound) as nobodys:
                await verb(STRANGER, "job_2")
            assert theirs.value.message.replace("job_1", "job_2") == nobodys.value.message
        with pytest.raises(NotFound):
            await anext(jobs.events(STRANGER, "job_1"))
        assert await jobs.list(STRANGER) == ([], False)
        for sees in (OWNER, MANAGER, ADMIN):
            found, more = await jobs.list(sees)
            assert [job.id for job in found] == ["job_1"]
            assert not more
            assert (await jobs.get(sees, "job_1")).state == "completed"


async def test_the_list_is_paged_newest_first(tmp_path: Path, database: Database) -> None:
    async def work(context: JobContext) -> None: ...

    async with jobs_room(tmp_path, database, {"work": work}) as jobs:
        for number in range(5):
            await jobs.start(new(f"job_{number}"))
        first, more = await jobs.list(OWNER, limit=3)
        rest, no_more = await jobs.list(OWNER, limit=3, after=first[-1].id)
        with pytest.raises(InvalidRequest):
            await jobs.list(OWNER, limit=0)
    assert [job.id for job in (*first, *rest)] == [f"job_{number}" for number in (4, 3, 2, 1, 0)]
    assert (more, no_more) == (True, False)


async def test_more_jobs_expire_at_once_than_a_statement_can_name(database: Database) -> None:
    def made(connection: Connection) -> None:
        for number in range(1201):
            records.add(connection, new(f"job_{number}"), "server", number)
        connection.execute(update(records.jobs).values(state="completed", finished_at_ns=records.jobs.c.created_at_ns))

    await database.write(made)
    holder = JobHolder(database)
    assert await holder.expire("proj_b", 5000) == 0
    assert await holder.expire("proj_a", 1200) == 1200
    left = await database.read(lambda connection: records.ended_before(connection, "proj_a", 5000))
    assert left == ["job_1200"]
