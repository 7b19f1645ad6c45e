"""What a job is, to its owner and to the room that runs it: plain values, times in ns since 1970 UTC."""

from typing import Any, Literal

import msgspec

from dayspring.core.errors import DayspringError, rebuild

__all__ = [
    "ENDED", "Failure", "Job", "JobCancelled", "JobEvent", "JobState", "NewJob", "Progress",
]  # fmt: skip

JobState = Literal["queued", "running", "cancelling", "cancelled", "completed", "failed"]

ENDED: frozenset[str] = frozenset({"cancelled", "completed", "failed"})


class JobCancelled(Exception):  # noqa: N818 - how a job says that it stopped as asked; no fault
    """Raised by a job's own code, by `JobContext.check` as a rule. The job's state becomes `cancelled`."""


class Failure(msgspec.Struct, frozen=True):
    """Why a job failed, in the one error shape."""

    message: str
    type: str
    code: str
    param: str | None = None

    @classmethod
    def of(cls, error: DayspringError) -> "Failure":
        return cls(error.message, error.type, error.code, error.param)

    def rebuilt(self) -> DayspringError:
        return rebuild(self.code, self.message, self.param)


class Progress(msgspec.Struct, frozen=True):
    """How far a job is, in units of its own kind. A total of 0 is not known."""

    done: int = 0
    total: int = 0
    note: str = ""


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job to be made. The same id twice is one job."""

    id: str
    kind: str
    organization_id: str
    project_id: str
    key_id: str
    user_id: str = ""
    arguments: dict[str, Any] = {}
    """JSON values; what the kind's `run` reads. Ids rather than content: this is kept as long as the job."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: str
    organization_id: str
    project_id: str
    key_id: str
    user_id: str
    server: str
    """The data folder that runs it, by its id: a job's files lie there."""
    state: JobState
    arguments: dict[str, Any]
    progress: Progress
    error: Failure | None
    attempts: int
    """Times a process has taken it up since it last got anywhere."""
    runs: int
    """1, and one more for each retry."""
    created_at_ns: int
    started_at_ns: int | None
    finished_at_ns: int | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class JobEvent(msgspec.Struct, frozen=True):
    """One thing that happened to a job, in order of `seq`, which begins at 1."""

    job_id: str
    seq: int
    at_ns: int
    type: Literal["state", "progress", "message"]
    message: str
    data: dict[str, Any] = {}
