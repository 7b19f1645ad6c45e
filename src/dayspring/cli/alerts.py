"""`dayspring alerts`: spend alerts, what they raised, and the webhooks that hear of it."""

import re
import time
from typing import Annotated

import msgspec
import typer

from dayspring.accounts.limits import NAMES
from dayspring.accounts.organizations import first_project
from dayspring.accounts.owners import Ref
from dayspring.accounts.principals import Principal, Scope
from dayspring.accounts.webhooks.outbox import known_events
from dayspring.accounts.webhooks.service import EndpointRequest
from dayspring.accounts.webhooks.signing import hint_of
from dayspring.accounts.webhooks.tables import Endpoint
from dayspring.cli.limits import OwnerId
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.core.money import format_amount, parse_amount
from dayspring.ledger.spending.alerts import Raised
from dayspring.ledger.spending.service import AlertRequest, RaisedQuery, Standing
from dayspring.server.house import House

__all__ = ["app"]

app = typer.Typer(help="Spend alerts and the webhooks that hear of them.", no_args_is_help=True)
webhooks = typer.Typer(help="Where events are posted.", no_args_is_help=True)
app.add_typer(webhooks, name="webhooks")


@app.command("add")
def add(
    owner_id: OwnerId,
    threshold: Annotated[str, typer.Argument(help="An amount such as 4.00, or a share of the budget such as 80%.")],
    home: Home = None,
) -> None:
    """Alert when so much is spent in the budget's period."""
    share = re.fullmatch(r"(\d{1,3})%", threshold)
    request = (
        AlertRequest(threshold_percent=int(share[1]))
        if share
        else AlertRequest(threshold_nanos=parse_amount(threshold))
    )
    made = in_house(home, lambda house: house.alerts.create(None, Ref(owner_id), request))
    print(f"{made.alert.id}: raised once in each period ({made.budget.period.value}) at {_threshold(made)}.")


@app.command("list")
def list_all(owner_id: OwnerId, as_json: AsJson = False, home: Home = None) -> None:
    """List the alerts of one owner."""
    found = in_house(home, lambda house: house.alerts.list(None, Ref(owner_id)))
    if as_json:
        print_json([msgspec.to_builtins(each.alert) for each in found])
        return
    rows = [(each.alert.id, _threshold(each), each.budget.period.value) for each in found]
    print_table(("ID", ">At", "Period"), rows, empty="There are no alerts.")


@app.command("remove")
def remove(owner_id: OwnerId, alert_id: str, home: Home = None) -> None:
    """Remove an alert. What it raised stays listed."""
    in_house(home, lambda house: house.alerts.delete(None, Ref(owner_id), alert_id))
    print(f"{alert_id} is removed.")


@app.command("raised")
def raised(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """List the alerts that were raised."""
    found = in_house(home, lambda house: house.alerts.raised(None, RaisedQuery(limit=limit)))[:limit]
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    print_table(("Raised", "Level", "Owner", ">At", ">Spent", "Period"), [_row(each) for each in found],
                empty="No alert was raised yet.")  # fmt: skip


@webhooks.command("add")
def add_webhook(
    url: Annotated[
        str, typer.Argument(help="Where to post; http:// and private addresses are the operator's to give.")
    ],
    name: Annotated[str, typer.Option(help="What it is for.")] = "alerts",
    event: Annotated[list[str] | None, typer.Option(help="An event to send; repeat for more. Without: all.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Post events of the whole organization to an address. Prints the signing secret once."""
    types = tuple(event) if event else tuple(sorted(known_events))

    async def work(house: House) -> Endpoint:
        request = EndpointRequest(name=name, url=url, event_types=types, project_id="")
        return await house.webhooks.create(await _operator(house), request)

    made = in_house(home, work)
    if as_json:
        print_json({"id": made.id, "url": made.url, "event_types": list(types), "signing_secret": made.secret})
        return
    print(f"{made.id}: {', '.join(types)}. The signing secret, which is not shown again:")
    print(made.secret)


@webhooks.command("list")
def list_webhooks(as_json: AsJson = False, home: Home = None) -> None:
    """List the endpoints."""

    async def work(house: House) -> list[Endpoint]:
        return await house.webhooks.list(await _operator(house), limit=1000)

    found = in_house(home, work)
    if as_json:
        print_json([{"id": each.id, "name": each.name, "url": each.url, "event_types": each.event_types.split(),
                     "project_id": each.project_id or None} for each in found])  # fmt: skip
        return
    rows = [
        (each.id, each.name, each.url, each.event_types, each.project_id or "all", hint_of(each.secret))
        for each in found
    ]
    print_table(("ID", "Name", "URL", "Events", "Project", "Secret"), rows, empty="There are no webhooks.")


@webhooks.command("remove")
def remove_webhook(endpoint_id: str, home: Home = None) -> None:
    """Remove an endpoint, with what was still to be sent to it."""

    async def work(house: House) -> None:
        await house.webhooks.delete(await _operator(house), endpoint_id)

    in_house(home, work)
    print(f"{endpoint_id} is removed.")


async def _operator(house: House) -> Principal:
    """Who holds the data folder, in the installation's first project."""
    project = await house.db.read(first_project)
    return Principal(project.organization_id, project.id, "cli", frozenset({Scope.ADMIN}))


def _threshold(standing: Standing) -> str:
    alert = standing.alert
    amount = alert.amount_nanos(standing.budget.limit_nanos)
    shown = "no budget is set" if amount is None else format_amount(amount)
    return shown if alert.threshold_percent is None else f"{alert.threshold_percent}% ({shown})"


def _row(each: Raised) -> tuple[str, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(each.raised_at_ns / 1e9)),
        NAMES[each.level],
        each.owner_id,
        format_amount(each.threshold_nanos),
        format_amount(each.spent_nanos),
        each.period,
    )
