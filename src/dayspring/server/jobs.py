"""`/v1/jobs`: durable work, how far it is, and its end."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from dayspring.accounts.principals import Principal
from dayspring.core.errors import Malformed
from dayspring.jobs.service import Jobs
from dayspring.jobs.values import Job, JobEvent
from dayspring.web.auth import Caller
from dayspring.web.openapi import ErrorDetail, results
from dayspring.web.sse import EventStream

__all__ = ["JobObject", "job_object", "router"]

router = APIRouter(prefix="/v1/jobs", tags=["Jobs"])

_Status = Literal["queued", "running", "cancelling", "cancelled", "completed", "failed"]


class JobProgress(BaseModel):
    """In units of the job's kind, such as requests of a batch; a total of 0 is not known."""

    done: int
    total: int
    note: str


class JobObject(BaseModel):
    """One durable job."""

    id: str
    object: Literal["job"] = "job"
    kind: str
    status: _Status
    project_id: str
    progress: JobProgress
    error: ErrorDetail | None
    runs: int
    created_at: int
    started_at: int | None
    finished_at: int | None


class JobList(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class JobEventObject(BaseModel):
    """One thing that happened to a job."""

    id: str
    object: Literal["job.event"] = "job.event"
    created_at: int
    type: Literal["state", "progress", "message"]
    message: str
    data: dict[str, Any]


class JobParameters(BaseModel):
    after: str | None = None
    limit: int = 20
    kind: str | None = None
    status: _Status | None = None


@router.get("")
async def list_jobs(request: Request, caller: Caller, parameters: Annotated[JobParameters, Query()]) -> JobList:
    """List the project's jobs, newest first."""
    jobs: Jobs = request.app.state.jobs
    states = frozenset({parameters.status}) if parameters.status else frozenset[str]()
    found, more = await jobs.list(
        caller, kind=parameters.kind, states=states, after=parameters.after, limit=parameters.limit
    )
    data = [job_object(each) for each in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return JobList(data=data, first_id=first, last_id=last, has_more=more)


@router.get("/{job_id}")
async def get_job(job_id: str, request: Request, caller: Caller) -> JobObject:
    """Show one job."""
    jobs: Jobs = request.app.state.jobs
    return job_object(await jobs.get(caller, job_id))


@router.get("/{job_id}/events", response_model=None, responses=results(JobEventObject, stream=JobEventObject))
async def job_events(job_id: str, request: Request, caller: Caller, after: str | None = None) -> Response:
    """What has happened to a job and what happens, as server-sent events, until it has ended.

    `after`: the id of the last event that was read, to go on from there.
    """
    jobs: Jobs = request.app.state.jobs
    return EventStream(_events(jobs, caller, job_id, _sequence(job_id, after)))


@router.post("/{job_id}/cancel")
async def cancel_job(job_id: str, request: Request, caller: Caller) -> JobObject:
    """Ask a job to end."""
    jobs: Jobs = request.app.state.jobs
    return job_object(await jobs.cancel(caller, job_id))


@router.post("/{job_id}/retry")
async def retry_job(job_id: str, request: Request, caller: Caller) -> JobObject:
    """Run a job that failed or was cancelled again, from the step that did not succeed."""
    jobs: Jobs = request.app.state.jobs
    return job_object(await jobs.retry(caller, job_id))


async def _events(jobs: Jobs, caller: Principal, job_id: str, after: int) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(jobs.events(caller, job_id, after)) as events:
        async for event in events:
            yield _event_object(event).model_dump()


def _sequence(job_id: str, after: str | None) -> int:
    if after is None:
        return 0
    head, _, number = after.rpartition("/")
    if head != job_id or not (number.isascii() and number.isdigit() and len(number) < 18):
        raise Malformed("it is no id of an event of this job. Send the id of one that was read.", location="after")
    return int(number)


def _event_object(event: JobEvent) -> JobEventObject:
    return JobEventObject(
        id=f"{event.job_id}/{event.seq}", created_at=event.at_ns // 10**9, type=event.type, message=event.message,
        data=event.data,
    )  # fmt: skip


def job_object(job: Job) -> JobObject:
    """The wire form."""
    error, progress = job.error, job.progress
    detail = None
    if error is not None:
        detail = ErrorDetail(message=error.message, type=error.type, param=error.param, code=error.code)
    return JobObject(
        id=job.id, kind=job.kind, status=job.state, project_id=job.project_id,
        progress=JobProgress(done=progress.done, total=progress.total, note=progress.note),
        error=detail, runs=job.runs, created_at=job.created_at_ns // 10**9, started_at=_seconds(job.started_at_ns),
        finished_at=_seconds(job.finished_at_ns),
    )  # fmt: skip


def _seconds(at_ns: int | None) -> int | None:
    return None if at_ns is None else at_ns // 10**9
