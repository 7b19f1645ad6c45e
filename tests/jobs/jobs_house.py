"""Jobs on a database and a data folder of their own, and ways to wait for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dayspring.accounts.principals import Principal, Scope
from dayspring.contracts.clock import SystemClock
from dayspring.core.settings import Settings
from dayspring.jobs.runs import Work
from dayspring.jobs.service import Jobs
from dayspring.jobs.values import Job, NewJob
from dayspring.store.database import Database

OWNER = Principal("org_a", "proj_a", "key_a", frozenset({Scope.INFERENCE}))
STRANGER = Principal("org_b", "proj_b", "key_b", frozenset({Scope.INFERENCE}))
MANAGER = Principal("org_a", "proj_other", "key_m", frozenset({Scope.MANAGE}))
ADMIN = Principal("org_c", "proj_c", "key_c", Scope.ALL)


def new(job_id: str, kind: str = "work", **arguments: object) -> NewJob:
    return NewJob(
        id=job_id, kind=kind, organization_id="org_a", project_id="proj_a", key_id="key_a", arguments=dict(arguments)
    )


@asynccontextmanager
async def jobs_room(home: Path, db: Database, kinds: dict[str, Work], **settings: object) -> AsyncIterator[Jobs]:
    """Open jobs; closed at the end as a server's stop closes them."""
    jobs = Jobs(Settings(home=home, database_url=db.url, **settings), db, SystemClock())
    for kind, work in kinds.items():
        jobs.register(kind, work)
    await jobs.open()
    try:
        yield jobs
    finally:
        await jobs.close()


async def ended(jobs: Jobs, job_id: str) -> Job:
    """The job, once it has ended."""
    async with asyncio.timeout(30):
        async for _ in jobs.events(OWNER, job_id):
            pass
    return await jobs.get(OWNER, job_id)
