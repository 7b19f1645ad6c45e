"""Usage, costs and margins over HTTP, in OpenAI's shapes; as CSV with `format=csv` or `Accept: text/csv`."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from dayspring.core.errors import Malformed, UnsupportedParameter
from dayspring.ledger.report_values import (
    BucketPage,
    BucketWidth,
    CompletionsResult,
    CostsResult,
    EmbeddingsResult,
    MarginsResult,
    ReportQuery,
    RequestPage,
    RequestQuery,
    RequestRow,
)
from dayspring.ledger.reports import Reports, buckets_to_csv, to_csv
from dayspring.web.auth import Caller
from dayspring.web.json_answer import json_answer
from dayspring.web.openapi import results

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization", tags=["Usage"])

_NOT_TOLD_APART = ("user_ids", "batch")
"""OpenAI's filters on what requests here do not have."""


class ReportParameters(BaseModel):
    """OpenAI's query parameters; lists are given as `name[]=a&name[]=b` or `name=a&name=b`."""

    model_config = ConfigDict(extra="ignore")

    start_time: int
    end_time: int | None = None
    bucket_width: BucketWidth = "1d"
    group_by: list[str] = []
    project_ids: list[str] = []
    api_key_ids: list[str] = []
    models: list[str] = []
    limit: int | None = None
    page: str | None = None
    format: Literal["json", "csv"] = "json"


def _query(request: Request, parameters: ReportParameters, groups: set[str]) -> ReportQuery:
    """The query, its lists read in both spellings."""
    sent = request.query_params
    for name in _NOT_TOLD_APART:
        if name in sent or f"{name}[]" in sent:
            raise UnsupportedParameter(name, "requests are not told apart by it. Leave it out")
    fields: dict[str, Any] = parameters.model_dump(exclude={"format"})
    for name in ("group_by", "project_ids", "api_key_ids", "models"):
        fields[name] = (*fields[name], *sent.getlist(f"{name}[]"))
    for name in fields["group_by"]:
        if name not in groups:
            raise Malformed(f"one can group by {', '.join(sorted(groups))}.", location="group_by")
    return ReportQuery(**fields)


def _as_csv(request: Request, wanted: str) -> bool:
    return wanted == "csv" or "text/csv" in request.headers.get("accept", "")


def _csv(text: str) -> Response:
    return Response(text, media_type="text/csv; charset=utf-8")


def _page(request: Request, parameters: ReportParameters, page: BucketPage[Any]) -> Response:
    if not _as_csv(request, parameters.format):
        return json_answer(page)
    return _csv(buckets_to_csv(page.data))


_USAGE = {"project_id", "api_key_id", "model", "user_id", "batch", "service_tier"}


@router.get("/usage/completions", response_model=None, responses=results(BucketPage[CompletionsResult], csv=True))
async def completions(request: Request, caller: Caller, parameters: Annotated[ReportParameters, Query()]) -> Response:
    """Tokens of chats and completions, by time."""
    reports: Reports = request.app.state.reports
    return _page(request, parameters, await reports.completions(caller, _query(request, parameters, _USAGE)))


@router.get("/usage/embeddings", response_model=None, responses=results(BucketPage[EmbeddingsResult], csv=True))
async def embeddings(request: Request, caller: Caller, parameters: Annotated[ReportParameters, Query()]) -> Response:
    """Tokens of embeddings, by time."""
    reports: Reports = request.app.state.reports
    return _page(request, parameters, await reports.embeddings(caller, _query(request, parameters, _USAGE)))


@router.get("/costs", response_model=None, responses=results(BucketPage[CostsResult], csv=True))
async def costs(request: Request, caller: Caller, parameters: Annotated[ReportParameters, Query()]) -> Response:
    """What was charged, by time."""
    reports: Reports = request.app.state.reports
    query = _query(request, parameters, {"project_id", "api_key_id", "line_item"})
    return _page(request, parameters, await reports.costs(caller, query))


@router.get("/margins", response_model=None, responses=results(BucketPage[MarginsResult], csv=True))
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


@router.get("/requests", response_model=None, responses=results(RequestPage, csv=True))
async def list_requests(
    request: Request, caller: Caller, parameters: Annotated[RequestParameters, Query()]
) -> Response:
    """Single requests with their account, newest first."""
    reports: Reports = request.app.state.reports
    query = RequestQuery(**parameters.model_dump(exclude={"format"}))
    page = await reports.list_requests(caller, query)
    return _csv(to_csv(page.data)) if _as_csv(request, parameters.format) else json_answer(page)


@router.get("/requests/{request_id}", response_model=None, responses=results(RequestRow))
async def get_request(request_id: str, request: Request, caller: Caller) -> Response:
    """The account of one request, by the id in its `x-request-id` header."""
    reports: Reports = request.app.state.reports
    return json_answer(await reports.get_request(caller, request_id))
