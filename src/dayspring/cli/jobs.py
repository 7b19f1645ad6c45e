"""`dayspring jobs`: durable work, how far it is, and its end."""

import datetime
from typing import Annotated, Any

import msgspec
import typer

from dayspring.accounts.principals import Principal, Scope
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.jobs.service import Jobs
from dayspring.jobs.values import Job
from dayspring.server.house import House

__all__ = ["app"]

app = typer.Typer(help="Durable jobs, such as batches.", no_args_is_help=True)

_OPERATOR = Principal("", "", "cli", frozenset({Scope.ADMIN}), None, sees_cost=True)
"""Who holds the data folder sees everything in it."""

_Id = Annotated[str, typer.Argument(help="A job's id; a batch's job has the batch's.")]


def _jobs(house: House) -> Jobs:
    return Jobs(house.settings, house.db, house.clock)


@app.command("list")
def list_all(
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind, e.g. batch.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, the newest first.")] = 20,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """List jobs, newest first."""
    found, _ = in_house(home, lambda house: _jobs(house).list(_OPERATOR, kind=kind, limit=limit))
    if as_json:
        print_json([_as_dict(job) for job in found])
        return
    rows = [(job.id, job.kind, job.state, _progress(job), job.project_id, _time(job.created_at_ns)) for job in found]
    print_table(("Job", "Kind", "State", ">Progress", "Project", "Created"), rows, empty="There are no jobs.")


@app.command("show")
def show(job_id: _Id, as_json: AsJson = False, home: Home = None) -> None:
    """Show one job and why it failed, if it did."""
    job = in_house(home, lambda house: _jobs(house).get(_OPERATOR, job_id))
    if as_json:
        print_json(_as_dict(job))
        return
    print(f"{job.id}: {job.kind}, {job.state}, {_progress(job)} done, created {_time(job.created_at_ns)}.")
    if job.error is not None:
        print(job.error.message)


@app.command("cancel")
def cancel(job_id: _Id, home: Home = None) -> None:
    """Ask a job to end; a running server hears of it within a second or two."""
    job = in_house(home, lambda house: _jobs(house).cancel(_OPERATOR, job_id))
    print(f"{job.id} is {job.state}.")


def _progress(job: Job) -> str:
    return f"{job.progress.done} of {job.progress.total or '?'}"


def _time(at_ns: int) -> str:
    return f"{datetime.datetime.fromtimestamp(at_ns / 1e9, datetime.UTC):%Y-%m-%d %H:%M}Z"


def _as_dict(job: Job) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(job)
    return fields
