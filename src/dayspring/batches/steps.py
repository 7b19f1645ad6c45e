"""The durable steps of a batch: check the input, answer it chunk by chunk, put the files together.

What holds: a batch that is taken up again after a kill repeats at most the lines that were under way, and they are
charged once; its files are those that one run would have made, each line once, in the order of the input. A batch that
ends early (cancelled, expired, its key revoked) delivers what was answered. A stop of the server leaves it whole.
"""

import asyncio
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection

from dayspring.accounts.principals import Principal
from dayspring.accounts.standing import Standing
from dayspring.batches import records
from dayspring.batches.answering import ABILITIES, Answering
from dayspring.batches.chunks import ChunkRun
from dayspring.batches.folder import WorkFolder
from dayspring.batches.lines import Checked, check_input
from dayspring.batches.values import Batch, BatchFault, BatchStatus, Tally
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Conflict, DayspringError, TimedOut
from dayspring.core.ids import new_id
from dayspring.core.settings import Settings
from dayspring.dispatch.service import Dispatch
from dayspring.files.service import Files
from dayspring.files.space import disk_failure
from dayspring.jobs.context import JobContext
from dayspring.jobs.service import Jobs
from dayspring.jobs.values import Failure, JobCancelled, NewJob
from dayspring.store import failpoints
from dayspring.store.database import Database

__all__ = ["KIND", "BatchWork"]

KIND = "batch"
_BEGUN = frozenset({"validating", "in_progress", "cancelling", "finalizing", "failed"})
"""A failed one is begun again by a retry of its job."""
_UNDER_WAY = frozenset({"validating", "in_progress", "finalizing", "cancelling"})


class _Answered(msgspec.Struct, frozen=True):
    """What a chunk came to, as its step is recorded."""

    tally: Tally
    whole: bool
    """False: the batch was cancelled meanwhile."""


class _Made(msgspec.Struct, frozen=True):
    output_file_id: str | None
    error_file_id: str | None
    tally: Tally
    """Of the lines in them; also those of a chunk that a fault kept from its end."""


class BatchWork:
    """What the jobs room runs for each batch. Its verbs are all that the rest of the room knows of jobs."""

    def __init__(
        self,
        jobs: Jobs,
        db: Database,
        files: Files,
        dispatch: Dispatch,
        answering: Answering,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._jobs = jobs
        self.db = db
        self.files = files
        self.dispatch = dispatch
        self.answering = answering
        self.settings = settings
        self.clock = clock
        self.standing = Standing(db, clock)
        jobs.register(KIND, self.run, self.ended)

    def folder(self, batch_id: str) -> WorkFolder:
        return WorkFolder(self.settings.home / "batches" / batch_id)

    def folders(self) -> dict[str, WorkFolder]:
        """Those there are, by the batch's id. Blocks."""
        place = self.settings.home / "batches"
        return {each.name: WorkFolder(each) for each in place.iterdir()} if place.is_dir() else {}

    def add(self, connection: Connection, batch: Batch) -> None:
        """Makes the batch's job, in the transaction that makes the batch."""
        job = NewJob(
            id=batch.id, kind=KIND, organization_id=batch.organization_id, project_id=batch.project_id,
            key_id=batch.key_id, user_id=batch.user_id,
        )  # fmt: skip
        self._jobs.add(connection, job)

    def wake(self) -> None:
        """Has what was added taken up."""
        self._jobs.wake()

    def ask_end(self, connection: Connection, batch_id: str) -> None:
        """Asks the job to end, in the transaction that marks the batch; `ask` tells it afterwards."""
        self._jobs.ask_end(connection, batch_id)

    def ask(self, batch_id: str) -> None:
        self._jobs.ask(batch_id)

    def ended(self, connection: Connection, batch_id: str, state: str, failure: Failure | None) -> None:
        """The job has ended. A batch that did not get to say so itself, because its job could not run, says it here."""
        now_ns = self.clock.time_ns()
        if state == "cancelled":
            records.change(connection, batch_id, _UNDER_WAY, status="cancelled", ended_at_ns=now_ns)
        elif failure is not None:
            faults = (BatchFault(failure.code, failure.message, failure.param),)
            records.change(connection, batch_id, _UNDER_WAY, status="failed", faults=faults, ended_at_ns=now_ns)

    async def run(self, context: JobContext) -> None:
        """The job's code. The same steps in the same order each time, as far as the recorded results are the same."""
        await _Run(self, context).run()


class _Run:
    """One run of one batch's job."""

    def __init__(self, work: BatchWork, context: JobContext) -> None:
        self._work = work
        self._context = context
        self._id = context.id
        self._folder = work.folder(context.id)
        self._tally = Tally()

    async def run(self) -> None:
        work, context = self._work, self._context
        batch = await work.db.read(lambda connection: records.find(connection, self._id))
        if batch.ended and batch.status != "failed":
            self._end_as(batch)
            return
        checked = await context.step("check-input", lambda: self._check(batch), Checked)
        if checked.faults:
            await self._end("failed", faults=checked.faults, total=checked.total)
            await asyncio.to_thread(self._folder.remove)
            raise Conflict("The batch's input cannot be answered", "The batch's errors say which lines are at fault.")
        (model, *others) = checked.models
        begun = {"total": checked.total, "model": None if others else model, "faults": (), "ended_at_ns": None}
        await self._change("in_progress", "in_progress_at_ns", frozenset({"validating", "failed"}), **begun)
        batch = msgspec.structs.replace(batch, total=checked.total)
        chunks = len(checked.chunks)
        try:
            cancelled = await self._answer(batch, checked)
        except DayspringError as error:
            await self._finish("failed", chunks, faults=(_fault(error),))
            raise
        ending: BatchStatus = "cancelled" if cancelled else "expired" if self._tally.expired else "completed"
        await self._finish(ending, chunks)
        self._end_as(msgspec.structs.replace(batch, status=ending))

    def _end_as(self, batch: Batch) -> None:
        """Lets the job end as the batch did, by what it raises."""
        if batch.status == "cancelled":
            raise JobCancelled
        if batch.status == "expired":
            window_s = (batch.expires_at_ns - batch.created_at_ns) / 1e9
            raise TimedOut("The batch", limit_s=window_s, setting="its completion_window")

    async def _answer(self, batch: Batch, checked: Checked) -> bool:
        """Chunk after chunk; whether the batch was cancelled meanwhile."""
        for index in range(len(checked.chunks)):
            self._context.leave_if_stopping()
            step = partial(self._answer_chunk, batch, checked, index)
            answered = await self._context.step(f"chunk-{index:05}", step, _Answered)
            self._tally = self._tally.plus(answered.tally)
            if not answered.whole:
                return True
        return False

    async def _check(self, batch: Batch) -> Checked:
        path, limit = self._folder.input, self._work.settings.max_body_bytes
        checked = await asyncio.to_thread(check_input, path, batch.endpoint, line_bytes=limit)
        if checked.faults:
            return checked
        principal = await self._principal(batch)
        faults = []
        for model, line in checked.models.items():
            try:
                await self._work.dispatch.model(principal, model, ABILITIES[batch.endpoint])
            except DayspringError as error:
                faults.append(BatchFault(error.code, error.message, "body.model", line))
        return msgspec.structs.replace(checked, faults=tuple(faults))

    async def _answer_chunk(self, batch: Batch, checked: Checked, index: int) -> _Answered:
        """Raises Unauthenticated when whoever began the batch may do nothing any more."""
        work = self._work
        run = ChunkRun(
            self._folder, (index, checked.chunks[index]), batch, self._context, work.answering, work.clock,
            who=lambda: self._principal(batch), told=self._progress, at_once=work.settings.batch_concurrency,
        )  # fmt: skip
        try:
            tally, whole = await run.run()
        except OSError as error:
            raise disk_failure(error) from None
        return _Answered(tally, whole)

    async def _principal(self, batch: Batch) -> Principal:
        return await self._work.standing.principal(batch.key_id, batch.user_id, batch.project_id)

    async def _progress(self, chunk: Tally, total: int) -> None:
        """Tells how far the batch is; kept at most once a second."""
        tally = self._tally.plus(chunk)
        if await self._context.progress(tally.completed + tally.failed, total):
            await self._write(_UNDER_WAY, tally=tally)

    async def _finish(self, status: str, chunks: int, *, faults: tuple[BatchFault, ...] = ()) -> None:
        """Puts the files together, hands them to their project, says that it is over and clears up."""
        await self._change("finalizing", "finalizing_at_ns", frozenset({"in_progress"}))
        ids = await self._context.step("name-files", _two_ids, tuple[str, str])
        made = await self._context.step("make-files", lambda: self._make_files(ids, chunks), _Made)
        failpoints.hit("batches.before-end")
        await self._context.flush()
        await self._end(
            status, faults=faults, tally=made.tally, output_file_id=made.output_file_id,
            error_file_id=made.error_file_id,
        )  # fmt: skip
        if status != "failed":
            await asyncio.to_thread(self._folder.remove)

    async def _make_files(self, ids: tuple[str, str], chunks: int) -> _Made:
        """Idempotent: the files have the ids that were chosen before."""
        work = self._work
        batch = await work.db.read(lambda connection: records.find(connection, self._id))
        owner = Principal(batch.organization_id, batch.project_id, batch.key_id, frozenset(), user_id=batch.user_id)
        try:
            files = await asyncio.to_thread(self._folder.assemble, chunks)
        except OSError as error:
            raise disk_failure(error) from None
        found: list[str | None] = []
        for path, file_id, name in zip((files.output, files.errors), ids, ("output", "error"), strict=True):
            if path is None:
                found.append(None)
                continue
            made = await work.files.adopt(
                owner, name=f"{batch.id}_{name}.jsonl", purpose="batch_output", path=path, file_id=file_id,
                expires_after_s=batch.output_expires_s,
            )  # fmt: skip
            failpoints.hit("batches.after-file")
            found.append(made.id)
        return _Made(found[0], found[1], files.tally)

    async def _end(self, status: str, **values: Any) -> None:
        await self._write(_BEGUN, status=status, ended_at_ns=self._work.clock.time_ns(), **values)

    async def _change(self, status: str, stamp: str, came_from: frozenset[str], **values: Any) -> None:
        await self._write(came_from, status=status, **{stamp: self._work.clock.time_ns()}, **values)

    async def _write(self, came_from: frozenset[str], **values: Any) -> None:
        await self._work.db.write(lambda connection: records.change(connection, self._id, came_from, **values))


async def _two_ids() -> tuple[str, str]:
    return new_id("file"), new_id("file")


def _fault(error: DayspringError) -> BatchFault:
    return BatchFault(error.code, error.message, error.param)
