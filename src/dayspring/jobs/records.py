"""The tables of jobs as people see them, and of what happened to each.

What holds: a state that has ended changes only by a retry; a transition names the states it may come from, in the
statement itself, so two servers cannot both make it. What it does not do: run anything. See `durable`.
"""

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from dayspring.jobs.values import ENDED, Failure, Job, JobEvent, JobState, NewJob, Progress
from dayspring.store.parts import in_parts
from dayspring.store.schema import metadata
from dayspring.store.statements import insert_if_new

__all__ = [
    "KEPT_EVENTS", "add", "add_event", "delete_ended", "ended_before", "events_after", "find", "forget_person",
    "job_events", "jobs", "move", "of_person", "page", "report", "take_up", "unfinished",
]  # fmt: skip

KEPT_EVENTS = 1000
"""Of one job; older ones go."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("organization_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("server", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("progress_done", BigInteger, nullable=False),
    Column("progress_total", BigInteger, nullable=False),
    Column("progress_note", String(200), nullable=False),
    Column("error", Text),
    Column("attempts", Integer, nullable=False),
    Column("runs", Integer, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("started_at_ns", BigInteger),
    Column("finished_at_ns", BigInteger),
    Index(None, "project_id", "id"),
    Index(None, "server", "state"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(64), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("type", String(16), nullable=False),
    Column("message", String(1000), nullable=False),
    Column("data", Text, nullable=False),
)


def add(connection: Connection, new: NewJob, server: str, now_ns: int) -> bool:
    """Whether it was new."""
    row = {
        **msgspec.structs.asdict(new),
        "arguments": msgspec.json.encode(new.arguments).decode(),
        "server": server,
        "state": "queued",
        "progress_done": 0,
        "progress_total": 0,
        "progress_note": "",
        "attempts": 0,
        "runs": 1,
        "created_at_ns": now_ns,
    }
    made = insert_if_new(connection, jobs, row)
    if made:
        add_event(connection, new.id, now_ns, "state", "queued", {"status": "queued"})
    return made


def find(connection: Connection, job_id: str, project_id: str | None = None) -> Job | None:
    """With a project, only one of it."""
    query = select(jobs).where(jobs.c.id == job_id)
    if project_id is not None:
        query = query.where(jobs.c.project_id == project_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _job(dict(row))


def page(
    connection: Connection,
    *,
    project_id: str | None,
    organization_id: str | None,
    kind: str | None,
    states: frozenset[str],
    after: str | None,
    limit: int,
) -> list[Job]:
    """Newest first, those older than `after`; at most `limit`."""
    query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if project_id is not None:
        query = query.where(jobs.c.project_id == project_id)
    if organization_id is not None:
        query = query.where(jobs.c.organization_id == organization_id)
    if kind is not None:
        query = query.where(jobs.c.kind == kind)
    if states:
        query = query.where(jobs.c.state.in_(sorted(states)))
    if after is not None:
        query = query.where(jobs.c.id < after)
    return [_job(dict(row)) for row in connection.execute(query).mappings()]


def unfinished(connection: Connection, server: str) -> list[Job]:
    """Those of a server that have not ended, oldest first."""
    query = select(jobs).where(jobs.c.server == server, jobs.c.state.not_in(sorted(ENDED))).order_by(jobs.c.id)
    return [_job(dict(row)) for row in connection.execute(query).mappings()]


def move(
    connection: Connection, job_id: str, to: JobState, came_from: frozenset[str], now_ns: int, **values: Any
) -> bool:
    """Whether the job was in one of the states `came_from` and now is in `to`, with these columns changed too."""
    if to in ENDED:
        values["finished_at_ns"] = now_ns
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(sorted(came_from)))
    if not connection.execute(statement.values(state=to, **values)).rowcount:
        return False
    add_event(connection, job_id, now_ns, "state", to, {"status": to})
    return True


def take_up(connection: Connection, job_id: str, now_ns: int) -> Job | None:
    """A process begins to run it, once more perhaps. None where there is nothing to run."""
    found = find(connection, job_id)
    if found is None or found.ended:
        return None
    started = {"attempts": found.attempts + 1, "started_at_ns": found.started_at_ns or now_ns}
    if not move(connection, job_id, "running", frozenset({"queued"}), now_ns, **started):
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(**started))
    return find(connection, job_id)


def report(connection: Connection, job_id: str, progress: Progress | None, now_ns: int) -> str:
    """Keeps the progress and that there was some; the job's state, `cancelling` where someone asked for an end."""
    values: dict[str, Any] = {"attempts": 0}
    if progress is not None:
        note = progress.note[:200]
        values |= {"progress_done": progress.done, "progress_total": progress.total, "progress_note": note}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    if progress is not None:
        add_event(connection, job_id, now_ns, "progress", note, {"done": progress.done, "total": progress.total})
    return str(connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar() or "")


def add_event(connection: Connection, job_id: str, now_ns: int, kind: str, message: str, data: dict[str, Any]) -> None:
    """To be called after a write to the job's own row, whose lock makes its events come one after another."""
    latest = connection.execute(select(func.max(job_events.c.seq)).where(job_events.c.job_id == job_id)).scalar() or 0
    row = {
        "job_id": job_id,
        "seq": latest + 1,
        "at_ns": now_ns,
        "type": kind,
        "message": message[:1000],
        "data": msgspec.json.encode(data).decode(),
    }
    connection.execute(insert(job_events), row)
    if latest >= KEPT_EVENTS:
        old = delete(job_events).where(job_events.c.job_id == job_id, job_events.c.seq <= latest + 1 - KEPT_EVENTS)
        connection.execute(old)


def events_after(connection: Connection, job_id: str, seq: int) -> list[JobEvent]:
    """At most 100, in order."""
    query = select(job_events).where(job_events.c.job_id == job_id, job_events.c.seq > seq)
    rows = connection.execute(query.order_by(job_events.c.seq).limit(100))
    return [
        JobEvent(row.job_id, row.seq, row.at_ns, row.type, row.message, msgspec.json.decode(row.data)) for row in rows
    ]


def of_person(connection: Connection, organization_id: str, user_id: str) -> list[Job]:
    """Those that one of our users began, oldest first."""
    query = select(jobs).where(jobs.c.organization_id == organization_id, jobs.c.user_id == user_id)
    return [_job(dict(row)) for row in connection.execute(query.order_by(jobs.c.id)).mappings()]


def forget_person(connection: Connection, organization_id: str, user_id: str) -> None:
    """Takes the user out of the jobs that are left."""
    mine = (jobs.c.organization_id == organization_id, jobs.c.user_id == user_id)
    connection.execute(update(jobs).where(*mine).values(user_id=""))


def ended_before(connection: Connection, project_id: str, before_ns: int) -> list[str]:
    """Ids of the project's jobs that had ended by then."""
    query = select(jobs.c.id).where(jobs.c.project_id == project_id, jobs.c.state.in_(sorted(ENDED)))
    return list(connection.execute(query.where(jobs.c.finished_at_ns < before_ns)).scalars())


def delete_ended(connection: Connection, ids: list[str]) -> int:
    """Forgets jobs that have ended, with their events. How many."""
    gone = 0
    for part in in_parts(ids):
        connection.execute(delete(job_events).where(job_events.c.job_id.in_(part)))
        ended = jobs.c.state.in_(sorted(ENDED))
        gone += connection.execute(delete(jobs).where(jobs.c.id.in_(part), ended)).rowcount
    return gone


def _job(row: dict[str, Any]) -> Job:
    progress = Progress(row.pop("progress_done"), row.pop("progress_total"), row.pop("progress_note"))
    error = row["error"]
    row["error"] = None if error is None else msgspec.json.decode(error, type=Failure)
    row["arguments"] = msgspec.json.decode(row["arguments"])
    return Job(**row, progress=progress)
