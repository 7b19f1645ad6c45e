"""`dayspring usage`: what was used, charged, spent and earned."""

import enum
import sys
import time
from typing import Annotated

import msgspec
import typer

from dayspring.accounts.principals import Principal, Scope
from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table
from dayspring.core.errors import InvalidRequest
from dayspring.core.money import format_amount
from dayspring.ledger.report_values import Bucket, MarginsResult, ReportQuery, RequestQuery, RequestRow
from dayspring.ledger.reports import buckets_to_csv, to_csv
from dayspring.server.house import House

__all__ = ["usage"]

_OPERATOR = Principal("", "", "cli", frozenset({Scope.ADMIN}), None, sees_cost=True)
"""Who holds the data folder sees everything in it."""

_DAY_S = 86_400


class By(enum.StrEnum):
    MODEL = "model"
    API_KEY_ID = "api_key_id"
    PROJECT_ID = "project_id"
    DEVICE = "device"


_HEADS = {By.MODEL: "Model", By.API_KEY_ID: "API key", By.PROJECT_ID: "Project", By.DEVICE: "Device"}


def usage(
    days: Annotated[int, typer.Option(min=1, max=31, help="How many days back, today included.")] = 7,
    by: Annotated[By, typer.Option(help="What to add up by.")] = By.MODEL,
    requests: Annotated[bool, typer.Option("--requests", help="List the last requests one by one instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many requests to list.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show usage, price, measured cost, idle cost and margin."""
    if as_csv and as_json:
        raise InvalidRequest("--csv and --json were both given. Choose one.")
    if requests:
        page = in_house(home, lambda house: house.reports.list_requests(_OPERATOR, RequestQuery(limit=limit)))
        _requests(page.data, as_csv=as_csv, as_json=as_json)
        return
    start = (int(time.time()) // _DAY_S - days + 1) * _DAY_S

    async def work(house: House) -> tuple[list[Bucket[MarginsResult]], str]:
        query = ReportQuery(start_time=start, group_by=(by.value,), limit=days)
        page = await house.reports.margins(_OPERATOR, query)
        return page.data, house.settings.currency

    buckets, currency = in_house(home, work)
    if as_json:
        print_json(msgspec.to_builtins([bucket for bucket in buckets if bucket.results]))
    elif as_csv:
        sys.stdout.write(buckets_to_csv(buckets))
    else:
        _table(buckets, by, currency)


def _table(buckets: list[Bucket[MarginsResult]], by: By, currency: str) -> None:
    rows = []
    for bucket in buckets:
        day = time.strftime("%Y-%m-%d", time.gmtime(bucket.start_time))
        for line in bucket.results:
            name = getattr(line, by.value) or "-"
            idle = line.line_item == "idle"
            rows.append(
                (
                    day,
                    f"{name} (idle)" if idle else name,
                    "" if idle else line.num_model_requests,
                    "" if idle else f"{line.busy_ns / 1e9:.2f}",
                    format_amount(line.charged_nanos),
                    format_amount(line.compute_cost_nanos + line.upstream_cost_nanos + line.idle_cost_nanos),
                    format_amount(line.margin_nanos),
                )
            )
    columns = ("Day", _HEADS[by], ">Requests", ">Device s", f">Charged {currency}", ">Cost", ">Margin")
    print_table(columns, rows, empty="Nothing was used in this time.")


def _requests(rows: list[RequestRow], *, as_csv: bool, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(rows))
        return
    if as_csv:
        sys.stdout.write(to_csv(rows))
        return
    cells = [
        (
            time.strftime("%m-%d %H:%M:%S", time.gmtime(row.finished_at_ns / 1e9)),
            row.id,
            row.model,
            row.status,
            row.input_tokens,
            row.output_tokens,
            format_amount(row.charged_nanos or 0),
            format_amount((row.compute_cost_nanos or 0) + (row.upstream_cost_nanos or 0)),
            format_amount(row.margin_nanos or 0),
        )
        for row in rows
    ]
    columns = ("Finished", "Request", "Model", "Status", ">In", ">Out", ">Charged", ">Cost", ">Margin")
    print_table(columns, cells, empty="There are no requests yet.")
