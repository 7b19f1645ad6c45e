"""Usage, costs and margins over HTTP, in OpenAI's shapes; as CSV with `format=csv` or `Accept: text/csv`."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from dayspring.core.errors import Malformed
from dayspring.ledger.report_values import BucketPage, BucketWidth, ReportQuery, RequestQuery
from dayspring.ledger.reports import Reports, to_csv
from dayspring.web.auth import Caller

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization", tags=["Usage"])


class ReportParameters(BaseModel):
    """OpenAI's query parameters; lists are given as `name[]=a&name[]=b` or `name=a&name=b`."""

    model_config = ConfigDict(extra="ignore")

    start_time: int
    end_time: int | None = None
    bucket_width: BucketWidth = "1d"
    limit: int | None = None
    page: str | None = None
    format: Literal["json", "csv"] = "json"


def _query(request: Request, parameters: ReportParameters, groups: set[str]) -> ReportQuery:
    """The query, its lists read in both spellings."""

    def listed(name: str) -> tuple[str, ...]:
        values = request.query_params
        return tuple(values.getlist(name) + values.getlist(f"{name}[]"))

    group_by = listed("group_by")
    for name in group_by:
        if name not in groups:
            raise Malformed(f"one can group by {', '.join(sorted(groups))}.", location="group_by")
    fields: dict[str, Any] = {"group_by": group_by} | parameters.model_dump(exclude={"format"})
    return ReportQuery(
        project_ids=listed("project_ids"), api_key_ids=listed("api_key_ids"), models=listed("models"), **fields
    )


def _page(request: Request, parameters: ReportParameters, page: BucketPage[Any]) -> Response:
    if parameters.format == "json" and "text/csv" not in request.headers.get("accept", ""):
        return Response(msgspec.json.encode(page), media_type="application/json")
    lines: list[str] = []
    for bucket in page.data:
        text = to_csv(bucket.results)
        if text:
            head, _, rows = text.partition("\r\n")
            if not lines:
                lines.append(f"start_time,end_time,{head}")
            lines += [f"{bucket.start_time},{bucket.end_time},{row}" for row in rows.split("\r\n") if row]
    return Response("\r\n".join([*lines, ""]), media_type="text/csv; charset=utf-8")


_USAGE = {"project_id", "api_key_id", "model", "user_id", "batch", "service_tier"}


@router.get("/usage/completions", response_model=None)
async def completions(request: Request, caller: Caller, parameters: Annotated[ReportParameters, Query()]) -> Response:
    """Tokens of chats and completions, by time."""
    reports: Reports = request.app.state.reports
    return _page(request, parameters, await reports.completions(caller, _query(request, parameters, _USAGE)))


@router.get("/usage/embeddings", response_model=None)
async def embeddings(request: Request, caller: Caller, parameters: Annotated[ReportParameters, Query()]) -> Response:
    """Tokens of embeddings, by time."""
    reports: Reports = request.app.state.reports
    return _page(request, parameters, await reports.embeddings(caller, _query(request, parameters, _USAGE)))


@router.get("/costs", response_model=None)
async def costs(request: Request, caller: Caller, parameters: Annotated[ReportParameters, Query()]) -> Response:
    """What was charged, by time."""
    reports: Reports = request.app.state.reports
    query = _query(request, parameters, {"project_id", "api_key_id", "line_item"})
    return _page(request, parameters, await reports.costs(caller, query))


@router.get("/margins", response_model=None)
async def margins(request: Request, caller: Caller, parameters: Annotated[ReportParameters, Query()]) -> Response:
    """Price, measured cost, idle cost and what is left, by time. For administrators."""
    reports: Reports = request.app.state.reports
    query = _query(request, parameters, {"project_id", "api_key_id", "model", "device"})
    return _page(request, parameters, await reports.margins(caller, query))


class RequestParameters(BaseModel):
    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    status: str | None = None
    format: Literal["json", "csv"] = "json"


@router.get("/requests", response_model=None)
async def list_requests(
    request: Request, caller: Caller, parameters: Annotated[RequestParameters, Query()]
) -> Response:
    """Single requests with their account, newest first."""
    reports: Reports = request.app.state.reports
    query = RequestQuery(**parameters.model_dump(exclude={"format"}))
    page = await reports.list_requests(caller, query)
    if parameters.format == "csv":
        return Response(to_csv(page.data), media_type="text/csv; charset=utf-8")
    return Response(msgspec.json.encode(page), media_type="application/json")


@router.get("/requests/{request_id}", response_model=None)
async def get_request(request_id: str, request: Request, caller: Caller) -> Response:
    """The account of one request, by the id in its `x-request-id` header."""
    reports: Reports = request.app.state.reports
    return Response(msgspec.json.encode(await reports.get_request(caller, request_id)), media_type="application/json")
