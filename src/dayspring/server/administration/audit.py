"""The audit log over HTTP: OpenAI's list, a search for text beside it, and an export as CSV or JSON lines."""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from dayspring.accounts.administration.audit_search import AuditQuery, entries_to_csv
from dayspring.core.errors import Malformed
from dayspring.server.administration.wire import Paging, house_of, page
from dayspring.web.auth import Actor

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization", tags=["Administration"])

_LISTS = ("event_types", "actor_ids", "actor_emails", "project_ids", "resource_ids")
_BOUNDS = ("gt", "gte", "lt", "lte")
_MOST_VALUES = 200
_TEXT = {"schema": {"type": "string"}}
_EXPORTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "All that matches.", "content": {"application/jsonl": _TEXT, "text/csv": _TEXT}}
}


class AuditEntryObject(BaseModel, extra="allow"):
    """One entry. What is told about the event stands under its name, e.g. `api_key.created`."""

    id: str
    object: Literal["organization.audit_log"] = "organization.audit_log"
    type: str
    effective_at: int
    actor: dict[str, Any]
    project: dict[str, Any] | None = None


class AuditEntryList(BaseModel):
    object: Literal["list"] = "list"
    data: list[AuditEntryObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class AuditFilters(BaseModel):
    """OpenAI's filters; lists are given as `name[]=a&name[]=b` or `name=a&name=b`, bounds as `effective_at[gte]=1`."""

    event_types: list[str] = Field(default_factory=list)
    actor_ids: list[str] = Field(default_factory=list)
    actor_emails: list[str] = Field(default_factory=list)
    project_ids: list[str] = Field(default_factory=list)
    resource_ids: list[str] = Field(default_factory=list)
    text: str = Field("", max_length=200)


class AuditPaging(AuditFilters, Paging):
    before: str | None = Field(None, max_length=64)


class AuditExport(AuditFilters):
    format: Literal["csv", "jsonl"] = "jsonl"


@router.get("/audit_logs")
async def list_audit_logs(
    request: Request, actor: Actor, parameters: Annotated[AuditPaging, Query()]
) -> AuditEntryList:
    """List who changed what, newest first."""
    query = _query(request, parameters, after=parameters.after, before=parameters.before, limit=parameters.limit)
    entries, more = await house_of(request).audit.list_entries(actor, query)
    shown = [AuditEntryObject(**entry.as_openai()) for entry in entries]
    return AuditEntryList(**page(shown, len(shown)) | {"has_more": more})


@router.get("/audit_logs/export", response_class=StreamingResponse, responses=_EXPORTED)
async def export_audit_logs(
    request: Request, actor: Actor, parameters: Annotated[AuditExport, Query()]
) -> StreamingResponse:
    """Everything that matches, newest first, as JSON lines or CSV."""
    query = _query(request, parameters)
    pages = house_of(request).audit.export(actor, query)
    first = await anext(pages)  # a refusal comes before the answer has begun

    async def lines() -> AsyncIterator[bytes]:
        header, entries = True, first
        while True:
            if parameters.format == "csv":
                yield entries_to_csv(entries, header=header).encode()
            else:
                yield b"".join(orjson.dumps(entry.as_openai()) + b"\n" for entry in entries)
            header, following = False, await anext(pages, None)
            if following is None:
                return
            entries = following

    kind = "text/csv; charset=utf-8" if parameters.format == "csv" else "application/jsonl"
    name = f"attachment; filename=audit_logs.{parameters.format}"
    return StreamingResponse(lines(), media_type=kind, headers={"Content-Disposition": name})


def _query(request: Request, parameters: AuditFilters, **more: Any) -> AuditQuery:
    sent = request.query_params
    fields: dict[str, Any] = {"text": parameters.text}
    for name in _LISTS:
        fields[name] = (*getattr(parameters, name), *sent.getlist(f"{name}[]"))
        if len(fields[name]) > _MOST_VALUES:
            raise Malformed(f"at most {_MOST_VALUES} values. Ask in several requests.", location=name)
    for bound in _BOUNDS:
        value = sent.get(f"effective_at[{bound}]")
        if value is not None:
            if not re.fullmatch(r"-?\d{1,10}", value):
                raise Malformed("it is in Unix seconds. Correct it.", location=f"effective_at[{bound}]")
            fields[bound] = int(value)
    return AuditQuery(**fields, **more)
