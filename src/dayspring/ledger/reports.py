"""Usage, costs, margins and single requests, read from what was settled.

What holds: who is no administrator sees the own project only, a manager the own organization, whatever the filters
say; prices need `sees_cost`, costs and margins an administrator. Usage counts what was delivered (completed or
cancelled); margins count everything that cost something, failed requests too, and idle time on a line of its own.
What it does not do: HTTP.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from dayspring.accounts.principals import Principal, Scope
from dayspring.contracts.clock import Clock
from dayspring.core.errors import Malformed, NotFound, PermissionDenied
from dayspring.ledger.buckets import Window, page_of, window_of
from dayspring.ledger.journal import journals, ledger_accounts, postings
from dayspring.ledger.notes import request_notes
from dayspring.ledger.report_values import (
    Amount,
    Bucket,
    BucketPage,
    CompletionsResult,
    CostsResult,
    EmbeddingsResult,
    MarginsResult,
    ReportQuery,
    RequestPage,
    RequestQuery,
    RequestRow,
    amount,
)
from dayspring.ledger.requests import requests
from dayspring.store.database import Database

__all__ = ["Reports", "buckets_to_csv", "to_csv"]

_GROUPS: dict[str, ColumnElement[str]] = {
    "project_id": requests.c.project_id,
    "api_key_id": requests.c.key_id,
    "model": requests.c.model,
    "device": requests.c.device,
    "line_item": requests.c.model,
}
_WITH_NOTES = select(requests, request_notes.c.metadata).outerjoin(
    request_notes, request_notes.c.request_id == requests.c.request_id
)
_DELIVERED = requests.c.status.in_(("completed", "cancelled"))
_SUMS = {
    name: func.coalesce(func.sum(requests.c[name]), 0).label(name)
    for name in (
        "input_tokens", "cached_tokens", "output_tokens", "busy_ns", "price_nanos", "compute_cost_nanos",
        "upstream_cost_nanos", "excess_nanos",
    )
}  # fmt: skip


class Reports:
    def __init__(self, db: Database, clock: Clock, currency: str) -> None:
        self._db = db
        self._clock = clock
        self._currency = currency

    async def completions(self, principal: Principal, query: ReportQuery) -> BucketPage[CompletionsResult]:
        """Tokens of chats and completions. Raises PermissionDenied, Malformed."""

        def result(row: RowMapping, groups: dict[str, Any]) -> CompletionsResult:
            return CompletionsResult(
                input_tokens=int(row["input_tokens"] + row["cached_tokens"]),
                output_tokens=int(row["output_tokens"]),
                input_cached_tokens=int(row["cached_tokens"]),
                num_model_requests=row["requests"],
                **groups,
            )

        names = ("project_id", "api_key_id", "model")
        where = [requests.c.task.in_(("chat", "completion")), _DELIVERED]
        return await self._report(principal, query, names, where, result)

    async def embeddings(self, principal: Principal, query: ReportQuery) -> BucketPage[EmbeddingsResult]:
        """Tokens of embeddings. Raises as `completions`."""

        def result(row: RowMapping, groups: dict[str, Any]) -> EmbeddingsResult:
            tokens = int(row["input_tokens"] + row["cached_tokens"])
            return EmbeddingsResult(input_tokens=tokens, num_model_requests=row["requests"], **groups)

        names = ("project_id", "api_key_id", "model")
        where = [requests.c.task.in_(("embedding", "rerank")), _DELIVERED]
        return await self._report(principal, query, names, where, result)

    async def costs(self, principal: Principal, query: ReportQuery) -> BucketPage[CostsResult]:
        """What was charged. Raises PermissionDenied for a key that may not see prices, else as `completions`."""
        if not (principal.sees_cost or principal.is_admin):
            raise PermissionDenied("This key may not see costs", "Ask an administrator for one that may.")

        def result(row: RowMapping, groups: dict[str, Any]) -> CostsResult:
            charged = int(row["price_nanos"])
            return CostsResult(amount=amount(charged, self._currency), amount_nanos=charged, **groups)

        names = ("project_id", "api_key_id", "line_item")
        return await self._report(principal, query, names, [_DELIVERED], result)

    async def margins(self, principal: Principal, query: ReportQuery) -> BucketPage[MarginsResult]:
        """What was earned. Raises PermissionDenied for all but administrators, else as `completions`.

        Idle time belongs to no project or key, so a query that names some has no idle line.
        """
        if not principal.is_admin:
            raise PermissionDenied("Margins are for administrators", "Use an administrator's key.")

        def result(row: RowMapping, groups: dict[str, Any]) -> MarginsResult:
            return self._margin("requests", groups, int(row["price_nanos"] + row["excess_nanos"]), row)

        page = await self._report(principal, query, ("project_id", "api_key_id", "model", "device"), [], result)
        if query.project_ids or query.api_key_ids:
            return page
        idle = await self._idle(query, window_of(query, self._now_s()))
        data = [
            msgspec.structs.replace(bucket, results=bucket.results + idle.get(bucket.start_time, []))
            for bucket in page.data
        ]
        return msgspec.structs.replace(page, data=data)

    async def list_requests(self, principal: Principal, query: RequestQuery) -> RequestPage:
        """Single requests, newest first by default. Raises PermissionDenied, Malformed, NotFound (for `after`)."""
        if not 1 <= query.limit <= 1000:
            raise Malformed("limit is 1 to 1000.", location="limit")
        where = _scope(principal)
        for column, value in (
            (requests.c.project_id, query.project_id),
            (requests.c.key_id, query.api_key_id),
            (requests.c.model, query.model),
            (requests.c.status, query.status),
        ):
            if value is not None:
                where.append(column == value)
        column = requests.c.request_id
        statement = _WITH_NOTES.order_by(column.asc() if query.order == "asc" else column.desc())
        if query.after is not None:
            where.append(column > query.after if query.order == "asc" else column < query.after)
        statement = statement.where(*where).limit(query.limit + 1)

        def find(connection: Connection) -> Sequence[RowMapping]:
            return connection.execute(statement).mappings().all()

        found = await self._db.read(find)
        data = [_row(row, principal) for row in found[: query.limit]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return RequestPage(data, len(found) > query.limit, *ends)

    async def get_request(self, principal: Principal, request_id: str) -> RequestRow:
        """Raises NotFound, also for another project's."""
        statement = _WITH_NOTES.where(requests.c.request_id == request_id, *_scope(principal))
        row = await self._db.read(lambda connection: connection.execute(statement).mappings().one_or_none())
        if row is None:
            raise NotFound("request", request_id)
        return _row(row, principal)

    async def _report(
        self, principal: Principal, query: ReportQuery, names: tuple[str, ...],
        where: Sequence[ColumnElement[bool]], result: Callable[[RowMapping, dict[str, Any]], Any],
    ) -> BucketPage[Any]:  # fmt: skip
        window = window_of(query, self._now_s())
        groups = [name for name in names if name in set[str](query.group_by)]
        bucket = (requests.c.finished_at_ns // (window.width_s * 10**9)).label("bucket")
        columns = [_GROUPS[name].label(f"by_{name}") for name in groups]
        statement = (
            select(bucket, *columns, *_SUMS.values(), func.count().label("requests"))
            .where(*_scope(principal), *_filters(query), *_between(requests.c.finished_at_ns, query, window), *where)
            .group_by(bucket, *columns)
            .order_by(bucket, *columns)
        )
        rows = await self._db.read(lambda connection: connection.execute(statement).mappings().all())
        results: dict[int, list[Any]] = {}
        for row in rows:
            group: dict[str, Any] = {name: row[f"by_{name}"] for name in groups}
            results.setdefault(int(row["bucket"]), []).append(result(row, group))
        return page_of(window, results)

    async def _idle(self, query: ReportQuery, window: Window) -> dict[int, list[MarginsResult]]:
        """Idle lines by the start of their bucket, in Unix seconds."""
        bucket = (journals.c.created_at_ns // (window.width_s * 10**9)).label("bucket")
        statement = (
            select(bucket, ledger_accounts.c.name, func.sum(postings.c.amount_nanos).label("cost"))
            .join(postings, postings.c.journal_id == journals.c.id)
            .join(ledger_accounts, ledger_accounts.c.id == postings.c.account_id)
            .where(journals.c.kind == "idle", ledger_accounts.c.kind == "idle-cost")
            .where(*_between(journals.c.created_at_ns, query, window))
            .group_by(bucket, ledger_accounts.c.name)
            .order_by(bucket, ledger_accounts.c.name)
        )
        rows = await self._db.read(lambda connection: connection.execute(statement).all())
        costs: dict[tuple[int, str | None, str | None], int] = {}
        for number, name, cost in rows:
            device, _, model = name.partition(":")[2].partition("/")
            if query.models and model not in query.models:
                continue
            key = (
                int(number) * window.width_s,
                device if "device" in query.group_by else None,
                model if "model" in query.group_by else None,
            )
            costs[key] = costs.get(key, 0) + int(cost)
        lines: dict[int, list[MarginsResult]] = {}
        for (start, by_device, by_model), cost in costs.items():
            line = self._margin("idle", {"device": by_device, "model": by_model}, 0, {"idle_cost_nanos": cost})
            lines.setdefault(start, []).append(line)
        return lines

    def _margin(
        self, line: Literal["requests", "idle"], groups: dict[str, Any], price: int, row: Mapping[str, Any] | RowMapping
    ) -> MarginsResult:
        compute, upstream, excess, idle = (
            int(row.get(name, 0))
            for name in ("compute_cost_nanos", "upstream_cost_nanos", "excess_nanos", "idle_cost_nanos")
        )
        margin = price - compute - upstream - excess - idle
        return MarginsResult(
            line_item=line,
            price_nanos=price,
            charged_nanos=price - excess,
            compute_cost_nanos=compute,
            upstream_cost_nanos=upstream,
            excess_nanos=excess,
            idle_cost_nanos=idle,
            margin_nanos=margin,
            margin=amount(margin, self._currency),
            busy_ns=int(row.get("busy_ns", 0)),
            num_model_requests=row.get("requests", 0),
            **groups,
        )

    def _now_s(self) -> int:
        return self._clock.time_ns() // 10**9


def to_csv(rows: Sequence[msgspec.Struct]) -> str:
    """A table with a header line: one column for each field, nested values as JSON. Empty for no rows.

    An Amount has no column: the exact nano-units stand beside it. A text that a spreadsheet would run as a formula is
    preceded by an apostrophe.
    """
    return _table((), [((), row) for row in rows])


def buckets_to_csv(buckets: Sequence[Bucket[Any]]) -> str:
    """As `to_csv`, the results of all buckets in one table; each begins with its bucket's start and end."""
    rows = [((bucket.start_time, bucket.end_time), result) for bucket in buckets for result in bucket.results]
    return _table(("start_time", "end_time"), rows)


def _table(head: Sequence[str], rows: Sequence[tuple[Sequence[object], msgspec.Struct]]) -> str:
    if not rows:
        return ""
    first = rows[0][1]
    names = [name for name in first.__struct_fields__ if not isinstance(getattr(first, name), Amount)]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow((*head, *names))
    for before, row in rows:
        writer.writerow((*before, *(_cell(getattr(row, name)) for name in names)))
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, (dict, list, msgspec.Struct)):
        value = msgspec.json.encode(value).decode()
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _scope(principal: Principal) -> list[ColumnElement[bool]]:
    """What this principal may see at all."""
    if not principal.may(Scope.USAGE):
        raise PermissionDenied("This key may not read usage", "Use a key with the scope 'usage'.")
    if principal.is_admin:
        return []
    if principal.may(Scope.MANAGE):
        return [requests.c.organization_id == principal.organization_id]
    return [requests.c.project_id == principal.project_id]


def _filters(query: ReportQuery) -> list[ColumnElement[bool]]:
    chosen = ((requests.c.project_id, query.project_ids), (requests.c.key_id, query.api_key_ids))
    return [column.in_(values) for column, values in (*chosen, (requests.c.model, query.models)) if values]


def _between(column: ColumnElement[int], query: ReportQuery, window: Window) -> list[ColumnElement[bool]]:
    end = window.end_s if query.end_time is None else min(window.end_s, query.end_time)
    return [column >= max(window.start_s, query.start_time) * 10**9, column < end * 10**9]


def _row(row: RowMapping, principal: Principal) -> RequestRow:
    admin = principal.is_admin
    return RequestRow(
        id=row["request_id"],
        project_id=row["project_id"],
        api_key_id=row["key_id"],
        model=row["model"],
        task=row["task"],
        status=row["status"],
        started_at_ns=row["started_at_ns"],
        first_token_ns=row["first_token_ns"],
        finished_at_ns=row["finished_at_ns"],
        input_tokens=row["input_tokens"] + row["cached_tokens"],
        input_cached_tokens=row["cached_tokens"],
        output_tokens=row["output_tokens"],
        other_units=msgspec.json.decode(row["other_units"]) if row["other_units"] else {},
        price_version=row["price_version"],
        metadata=msgspec.json.decode(row["metadata"]) if row["metadata"] else None,
        charged_nanos=row["price_nanos"] if admin or principal.sees_cost else None,
        engine=row["engine"] if admin else None,
        device=row["device"] if admin else None,
        upstream=row["upstream"] if admin else None,
        busy_ns=row["busy_ns"] if admin else None,
        compute_cost_nanos=row["compute_cost_nanos"] if admin else None,
        upstream_cost_nanos=row["upstream_cost_nanos"] if admin else None,
        excess_nanos=row["excess_nanos"] if admin else None,
        margin_nanos=row["price_nanos"] - row["compute_cost_nanos"] - row["upstream_cost_nanos"] if admin else None,
    )
