"""`dayspring audit`: who changed what, searched and exported."""

import datetime
import enum
import sys
import time
from typing import Annotated

import msgspec
import typer

from dayspring.accounts.administration.audit_search import AuditQuery, Entry, entries_to_csv
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.core.errors import InvalidRequest
from dayspring.server.house import House

__all__ = ["audit"]


class Export(enum.StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


def audit(
    text: Annotated[str, typer.Argument(help="Somewhere in the event, the target, the actor or the details.")] = "",
    event: Annotated[
        list[str] | None, typer.Option(help="Only this event, e.g. api_key.created; repeat for more.")
    ] = None,
    actor: Annotated[list[str] | None, typer.Option(help="Only what this key or user did; repeat for more.")] = None,
    project: Annotated[list[str] | None, typer.Option(help="Only in this project; repeat for more.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Only the last so many days.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many entries to show.")] = 50,
    export: Annotated[Export | None, typer.Option(help="Print everything that matches in this format.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show who changed what, newest first."""
    if as_json and export is not None:
        raise InvalidRequest("--export and --json were both given. Choose one.")
    query = AuditQuery(
        event_types=tuple(event or ()),
        actor_ids=tuple(actor or ()),
        project_ids=tuple(project or ()),
        text=text,
        gte=None if days is None else int(time.time()) - days * 86_400,
        limit=limit,
    )
    if export is not None:
        in_house(home, lambda house: _export(house, query, export))
        return
    entries, _ = in_house(home, lambda house: house.audit.list_entries(None, query))
    if as_json:
        print_json([entry.as_openai() for entry in entries])
        return
    rows = [(_when(entry), entry.event, entry.target_id, _who(entry), entry.address or "") for entry in entries]
    print_table(("Time (UTC)", "Event", "Target", "By", "From"), rows, empty="Nothing matches.")


async def _export(house: House, query: AuditQuery, kind: Export) -> None:
    header = True
    async for entries in house.audit.export(None, query):
        if kind is Export.CSV:
            sys.stdout.write(entries_to_csv(entries, header=header))
        else:
            for entry in entries:
                sys.stdout.write(msgspec.json.encode(entry.as_openai()).decode() + "\n")
        header = False


def _when(entry: Entry) -> str:
    return f"{datetime.datetime.fromtimestamp(entry.at_ns / 1e9, datetime.UTC):%Y-%m-%d %H:%M:%S}"


def _who(entry: Entry) -> str:
    return entry.actor_email or entry.actor_user_id or entry.actor_key_id or "terminal"
