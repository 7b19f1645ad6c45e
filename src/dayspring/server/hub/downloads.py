"""`POST /v1/hub/models` and `/v1/hub/downloads`: adding models in the background, told how far they are."""

from collections.abc import AsyncGenerator
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from dayspring.contracts.models import Ability
from dayspring.hub.downloads import Download, Downloads, State
from dayspring.hub.service import Hub
from dayspring.server.hub.searching import check_source
from dayspring.web.auth import Admin
from dayspring.web.body import documented, read_body
from dayspring.web.openapi import results
from dayspring.web.paging import Limit
from dayspring.web.sse import EventStream

__all__ = ["router"]

router = APIRouter(prefix="/v1/hub", tags=["Hub"])


class AddModelBody(BaseModel):
    """A model to add, as GET /v1/hub/plan plans it."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(min_length=1, max_length=2048)
    id: str | None = None
    sha256: str = ""
    licence: str = ""
    accept_licence: bool = False
    abilities: list[Ability] = []
    options: dict[str, Any] = {}
    base: str = ""
    """The model here that an adapter changes."""


class DownloadError(BaseModel):
    code: str
    message: str


class DownloadObject(BaseModel):
    """A model on its way in."""

    id: str
    object: Literal["hub.download"] = "hub.download"
    model: str
    source: str
    status: State
    file: str
    done_bytes: int
    total_bytes: int
    error: DownloadError | None
    created_at: int
    updated_at: int


class DownloadList(BaseModel):
    """A page of downloads, newest first."""

    object: Literal["list"] = "list"
    data: list[DownloadObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def _object(download: Download) -> DownloadObject:
    error = DownloadError(code=download.error_code, message=download.error_message) if download.error_code else None
    same = ("id", "model", "source", "status", "file", "done_bytes", "total_bytes", "created_at", "updated_at")
    return DownloadObject(**{name: getattr(download, name) for name in same}, error=error)


def _downloads(request: Request) -> Downloads:
    found: Downloads = request.app.state.downloads
    return found


@router.post("/models", openapi_extra=documented(AddModelBody))
async def add_model(request: Request, caller: Admin) -> DownloadObject:
    """Plan a model and add it in the background. What stands against it is told at once."""
    body = await read_body(request, AddModelBody)
    check_source(request, body.source)
    hub: Hub = request.app.state.hub
    plan = await hub.plan(
        body.source,
        body.id,
        sha256=body.sha256,
        licence=body.licence,
        abilities=tuple(body.abilities),
        options=body.options,
        base=body.base,
    )
    accepted_by = (caller.user_id or caller.key_id) if body.accept_licence else ""
    return _object(await _downloads(request).order(plan, accepted_by, caller))


@router.get("/downloads")
async def list_downloads(request: Request, _: Admin, after: str = "", limit: Limit = 20) -> DownloadList:
    """Models under way, and those that came before."""
    found = await _downloads(request).list(after, limit + 1)
    data = [_object(each) for each in found[:limit]]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return DownloadList(data=data, first_id=ends[0], last_id=ends[1], has_more=len(found) > limit)


@router.get("/downloads/{download_id}")
async def get_download(download_id: str, request: Request, _: Admin) -> DownloadObject:
    """How far a model is."""
    return _object(await _downloads(request).get(download_id))


@router.get("/downloads/{download_id}/events", response_model=None, responses=results(DownloadObject))
async def watch_download(download_id: str, request: Request, _: Admin) -> Response:
    """How far a model is, as server-sent events, until it ends or is paused."""
    downloads = _downloads(request)

    async def events() -> AsyncGenerator[Any, None]:
        async for each in downloads.watch(download_id):
            yield _object(each).model_dump()

    return EventStream(events())


@router.post("/downloads/{download_id}/pause")
async def pause_download(download_id: str, request: Request, _: Admin) -> DownloadObject:
    """Stop fetching and keep what came."""
    return _object(await _downloads(request).pause(download_id))


@router.post("/downloads/{download_id}/resume")
async def resume_download(download_id: str, request: Request, caller: Admin) -> DownloadObject:
    """Go on with a download that is paused or failed."""
    return _object(await _downloads(request).resume(download_id, caller))


@router.post("/downloads/{download_id}/cancel")
async def cancel_download(download_id: str, request: Request, _: Admin) -> DownloadObject:
    """End a download for good."""
    return _object(await _downloads(request).cancel(download_id))
