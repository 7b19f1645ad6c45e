"""A process with one job of many steps, to be killed: `python jobs_process.py HOME URL [ID]`.

Each step appends its name to a file, so that what ran, and how often, is seen after any death.
"""

import asyncio
import sys
from pathlib import Path

from dayspring.contracts.clock import SystemClock
from dayspring.core.settings import Settings
from dayspring.jobs.context import JobContext
from dayspring.jobs.service import Jobs
from dayspring.jobs.values import NewJob
from dayspring.store import failpoints
from dayspring.store.database import Database

STEPS = 6


async def work(context: JobContext) -> None:
    ran = Path(sys.argv[1]) / "ran.txt"
    for number in range(STEPS):

        async def step(number: int = number) -> int:
            with ran.open("a") as file:
                file.write(f"{number}\n")
            failpoints.hit("test.in-step")
            return number * number

        assert await context.step(f"step-{number}", step, int) == number * number
        failpoints.hit("test.after-step")
        await context.progress(number + 1, STEPS)


async def main(home: Path, url: str, job_id: str = "job_1") -> str:
    db = Database.open(url)
    jobs = Jobs(Settings(home=home, database_url=url), db, SystemClock())
    jobs.register("work", work)
    await jobs.open()
    new = NewJob(id=job_id, kind="work", organization_id="org_a", project_id="proj_a", key_id="key_a")
    job = await jobs.start(new)
    while not job.ended:
        await asyncio.sleep(0.02)
        job = await jobs.start(new)
    await jobs.close()
    db.close()
    return job.state


if __name__ == "__main__":
    sys.stdout.write(asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:])))
