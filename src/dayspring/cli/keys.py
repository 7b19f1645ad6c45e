"""`dayspring keys`: make, list and revoke API keys, and set their budgets."""

import datetime
import re
import sys
import time
from typing import Annotated, Any

import typer

from dayspring.accounts.keys import Key
from dayspring.accounts.principals import Scope
from dayspring.accounts.service import Budget, KeyRequest, NewKey
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table, warn
from dayspring.core.errors import InvalidRequest
from dayspring.core.money import format_amount, parse_amount
from dayspring.server.house import House

__all__ = ["app"]

app = typer.Typer(help="API keys and their budgets.", no_args_is_help=True)

_SPANS = {"h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_S = 100 * 366 * 86_400


@app.command("create")
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    admin: Annotated[bool, typer.Option("--admin", help="May do everything, in every project.")] = False,
    budget: Annotated[str | None, typer.Option(help="Most it may spend, e.g. 5.00. Without one: no limit.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="A model it may use; repeat for more. Without: all.")] = None,
    expires: Annotated[str | None, typer.Option(help="Ends after this long, e.g. 12h, 30d, 8w.")] = None,
    show_cost: Annotated[bool, typer.Option("--show-cost", help="Its answers carry their price.")] = False,
    project: Annotated[str | None, typer.Option(help="Project id; without one the default project.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of the user whose key it is; it can do no more.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Make a key and print it once. It cannot be shown again."""
    request = KeyRequest(
        name=name,
        project_id=project,
        scopes=Scope.ALL if admin else frozenset({Scope.INFERENCE, Scope.USAGE}),
        allowed_models=frozenset(model) if model else None,
        sees_cost=show_cost or admin,
        expires_at_ns=None if expires is None else time.time_ns() + _span_ns(expires),
        budget_nanos=None if budget is None else parse_amount(budget),
        user_id=user or "",
    )

    async def work(house: House) -> NewKey:
        here = {each.id for each in await house.hub.list()} if model else set()
        for name in sorted(set(model or ()) - here):
            warn(f"there is no model {name!r} here; the key may use it once there is. See 'dayspring models list'.")
        return await house.accounts.create_key(request)

    made = in_house(home, work, makes=True)
    if as_json:
        print_json({"id": made.key.id, "name": made.key.name, "key": made.token, "budget_nanos": request.budget_nanos})
        return
    print(f"{made.key.id} — its id, for 'dayspring keys' and 'dayspring limits'", file=sys.stderr)
    print(made.token)


@app.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """List all keys with what they spent and have left."""

    async def work(house: House) -> list[tuple[Key, Budget]]:
        keys = await house.accounts.list_keys()
        return [(key, await house.accounts.budget(key.id)) for key in keys]

    found = in_house(home, work)
    if as_json:
        print_json([_as_dict(key, budget) for key, budget in found])
        return
    rows = [
        (
            key.id,
            key.name,
            f"{key.prefix}…",
            "all" if key.allowed_models is None else ", ".join(sorted(key.allowed_models)),
            "yes" if Scope.ADMIN in key.scopes else "",
            _state(key),
            format_amount(budget.spent_nanos),
            "no limit" if budget.left_nanos is None else format_amount(budget.left_nanos),
        )
        for key, budget in found
    ]
    columns = ("ID", "Name", "Key", "Models", "Admin", "State", ">Spent", ">Left")
    print_table(columns, rows, empty="There are no keys.")


@app.command("revoke")
def revoke(key_id: str, home: Home = None) -> None:
    """End a key at once. Requests under way finish."""
    key = in_house(home, lambda house: house.accounts.revoke_key(key_id))
    print(f"{key.id} ({key.name}) is revoked.")


@app.command("rotate")
def rotate(
    key_id: str,
    grace: Annotated[str | None, typer.Option(help="The old secret works this long too, e.g. 12h, 7d.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Give a key another secret and print it once. Its id, budget and history stay."""
    grace_s = 0 if grace is None else _span_ns(grace) // 10**9
    made = in_house(home, lambda house: house.keys.rotate(None, key_id, grace_s))
    if as_json:
        until = made.key.previous_until_ns
        print_json({"id": made.key.id, "key": made.token, "previous_secret_until": until and until // 10**9})
        return
    print(f"{made.key.id} — the old secret works {'no more' if grace is None else f'for {grace}'}", file=sys.stderr)
    print(made.token)


@app.command("budget")
def budget(
    key_id: Annotated[str, typer.Argument(help="Id of a key, project or organization.")],
    amount: Annotated[str, typer.Argument(help="The most it may spend in all, e.g. 5.00, or 'none'.")],
    home: Home = None,
) -> None:
    """Set or remove a budget."""
    limit = None if amount == "none" else parse_amount(amount)

    async def work(house: House) -> Budget:
        await house.accounts.set_budget(key_id, limit)
        return await house.accounts.budget(key_id)

    now = in_house(home, work)
    left = "no limit" if now.left_nanos is None else f"{format_amount(now.left_nanos)} left"
    print(f"{key_id}: {left}, {format_amount(now.spent_nanos)} spent.")


def _span_ns(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,4})([hdw])", text)
    if match is None or int(match[1]) * _SPANS[match[2]] > _LONGEST_S:
        raise InvalidRequest(
            f"{text!r} is no length of time. Write hours, days or weeks, such as 12h, 30d or 8w; at most 100 years."
        )
    return int(match[1]) * _SPANS[match[2]] * 10**9


def _state(key: Key) -> str:
    if key.revoked_at_ns is not None:
        return "revoked"
    if not key.is_live(time.time_ns()):
        return "expired"
    if key.expires_at_ns is None:
        return "live"
    until = datetime.datetime.fromtimestamp(key.expires_at_ns / 1e9, datetime.UTC)
    return f"live until {until:%Y-%m-%d %H:%M}Z"


def _as_dict(key: Key, budget: Budget) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "project_id": key.project_id,
        "scopes": sorted(key.scopes),
        "allowed_models": None if key.allowed_models is None else sorted(key.allowed_models),
        "state": _state(key),
        "limit_nanos": budget.limit_nanos,
        "spent_nanos": budget.spent_nanos,
        "held_nanos": budget.held_nanos,
    }
