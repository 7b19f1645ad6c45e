"""`dayspring limits`: rates, concurrency and budgets of organizations, projects, keys and users."""

import datetime
from typing import Annotated, Any

import typer
from msgspec import UNSET

from dayspring.accounts.limiting import BudgetChange, Overview, RateChange
from dayspring.accounts.limits import NAMES
from dayspring.accounts.owners import Ref
from dayspring.accounts.periods import Period
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.core.errors import InvalidRequest
from dayspring.core.money import format_amount, parse_amount
from dayspring.server.house import House

__all__ = ["app"]

app = typer.Typer(help="Limits on requests, tokens, concurrency and money.", no_args_is_help=True)

OwnerId = Annotated[str, typer.Argument(help="Id of an organization, project, key or user; 'limits list' has them.")]


@app.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """Show every organization, project, key and user with its limits and budget."""
    found = in_house(home, lambda house: house.limiting.list(None))
    if as_json:
        print_json([_as_dict(each) for each in found])
        return
    rows = [
        (
            each.owner.id,
            NAMES[each.owner.level],
            each.owner.name,
            _number(each.rates.requests_per_minute),
            _number(each.rates.tokens_per_minute),
            _number(each.rates.concurrency),
            _amount(each.budget.limit_nanos),
            _amount(each.budget.soft_limit_nanos),
            each.budget.period.value,
            format_amount(each.budget.period_spent_nanos),
            _amount(each.budget.left_nanos),
        )
        for each in found
    ]
    columns = (
        "ID", "Level", "Name", ">Requests/min", ">Tokens/min", ">At once", ">Budget", ">Soft", "Period", ">Spent",
        ">Left",
    )  # fmt: skip
    print_table(columns, rows, empty="There is nothing yet.")


@app.command("set")
def set_limits(
    owner_id: OwnerId,
    requests: Annotated[str | None, typer.Option(help="Requests a minute, or 'none'.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens a minute, in and out, or 'none'.")] = None,
    concurrency: Annotated[str | None, typer.Option(help="Requests at the same time, or 'none'.")] = None,
    budget: Annotated[str | None, typer.Option(help="The most it may spend in a period, e.g. 5.00, or 'none'.")] = None,
    soft: Annotated[str | None, typer.Option(help="Spending that raises an alert and refuses nothing.")] = None,
    period: Annotated[Period | None, typer.Option(help="When the budget is refilled; UTC.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Set or lift limits. What is not named stays; another period begins now."""
    rates = RateChange(
        requests_per_minute=UNSET if requests is None else _count(requests),
        tokens_per_minute=UNSET if tokens is None else _count(tokens),
        concurrency=UNSET if concurrency is None else _count(concurrency),
    )
    money = BudgetChange(
        limit_nanos=UNSET if budget is None else _money(budget),
        soft_limit_nanos=UNSET if soft is None else _money(soft),
        period=UNSET if period is None else period,
    )
    if rates == RateChange() and money == BudgetChange():
        raise InvalidRequest(
            "Nothing is to be set. Give --requests, --tokens, --concurrency, --budget, --soft, --period."
        )

    async def work(house: House) -> Overview:
        if rates != RateChange():
            await house.limiting.set_rates(None, Ref(owner_id), rates)
        if money != BudgetChange():
            await house.limiting.set_budget(None, Ref(owner_id), money)
        return await house.limiting.get(None, Ref(owner_id))

    now = in_house(home, work)
    if as_json:
        print_json(_as_dict(now))
        return
    of = now.rates
    print(
        f"{owner_id}: requests a minute {_number(of.requests_per_minute)}, tokens a minute "
        f"{_number(of.tokens_per_minute)}, at the same time {_number(of.concurrency)}. {_budget(now)}"
    )


def _budget(now: Overview) -> str:
    budget = now.budget
    if budget.limit_nanos is None:
        return f"No budget; {format_amount(budget.period_spent_nanos)} spent."
    resets = ""
    if budget.resets_at_ns is not None:
        resets = f", refilled {datetime.datetime.fromtimestamp(budget.resets_at_ns // 10**9, datetime.UTC):%Y-%m-%d}"
    left = format_amount(budget.left_nanos or 0)
    return f"Budget {format_amount(budget.limit_nanos)} a period ({budget.period.value}{resets}): {left} left."


def _count(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal() or len(text) > 12:
        raise InvalidRequest(f"{text!r} is no limit. Write a whole number from 1, or 'none'.")
    return int(text)


def _money(text: str) -> int | None:
    return None if text == "none" else parse_amount(text)


def _number(value: int | None) -> str:
    return "no limit" if value is None else str(value)


def _amount(nanos: int | None) -> str:
    return "no limit" if nanos is None else format_amount(nanos)


def _as_dict(each: Overview) -> dict[str, Any]:
    return {
        "id": each.owner.id,
        "level": NAMES[each.owner.level],
        "name": each.owner.name,
        "organization_id": each.owner.organization_id,
        "project_id": each.owner.project_id or None,
        "requests_per_minute": each.rates.requests_per_minute,
        "tokens_per_minute": each.rates.tokens_per_minute,
        "concurrency": each.rates.concurrency,
        "limit_nanos": each.budget.limit_nanos,
        "soft_limit_nanos": each.budget.soft_limit_nanos,
        "period": each.budget.period.value,
        "period_spent_nanos": each.budget.period_spent_nanos,
        "spent_nanos": each.budget.spent_nanos,
        "held_nanos": each.budget.held_nanos,
        "resets_at": None if each.budget.resets_at_ns is None else each.budget.resets_at_ns // 10**9,
    }
