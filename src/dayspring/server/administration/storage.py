"""How long a project's things are kept, and how much room they have, over HTTP.

OpenAI's `data_retention` is a contract type and not a length of time, so the types here are `none` (everything is kept)
and `custom`; the days stand beside it, by kind.
"""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from dayspring.core.errors import Malformed
from dayspring.server.administration.wire import Strict, house_of
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization/projects/{project_id}", tags=["Administration"])


class RetentionObject(BaseModel):
    """Days that things are kept, by kind; what is null is kept until it is deleted."""

    object: Literal["project.data_retention"] = "project.data_retention"
    type: Literal["none", "custom"]
    days: dict[str, int | None]


class RetentionBody(Strict):
    retention_type: Literal["none", "custom"] = "custom"
    """`none`: keep everything, whatever was set before."""
    days: dict[str, int | None] = Field(default_factory=dict, max_length=16)


class StorageObject(BaseModel):
    """Bytes on disk; `limit_bytes` is null where nothing was set for this project."""

    object: Literal["project.storage"] = "project.storage"
    project_id: str
    limit_bytes: int | None
    used_bytes: int
    used_bytes_by_kind: dict[str, int]


class StorageBody(Strict):
    limit_bytes: int | None = Field(ge=0)


@router.get("/data_retention")
async def get_retention(project_id: str, request: Request, actor: Actor) -> RetentionObject:
    """Show how long the project's things are kept."""
    return _retention(request, await house_of(request).projects.retention(actor, project_id))


@router.post("/data_retention", openapi_extra=documented(RetentionBody))
async def set_retention(project_id: str, request: Request, actor: Actor) -> RetentionObject:
    """Set how long the project's things are kept, for the kinds named."""
    body = await read_body(request, RetentionBody)
    kinds = _kinds(request)
    unknown = sorted(body.days.keys() - kinds)
    if unknown:
        raise Malformed(f"a kind is {', '.join(sorted(kinds))}. Correct it.", location=f"days.{unknown[0]}"[:100])
    days: dict[str, int | None] = dict.fromkeys(kinds) if body.retention_type == "none" else body.days
    return _retention(request, await house_of(request).projects.set_retention(actor, project_id, days))


@router.get("/storage")
async def get_storage(project_id: str, request: Request, actor: Actor) -> StorageObject:
    """Show how much room the project's things take, and how much they may."""
    return await _storage(project_id, request, actor)


@router.post("/storage", openapi_extra=documented(StorageBody))
async def set_storage(project_id: str, request: Request, actor: Actor) -> StorageObject:
    """Set how much room the project's things may take. What is stored already stays."""
    body = await read_body(request, StorageBody)
    await house_of(request).projects.set_quota(actor, project_id, body.limit_bytes)
    return await _storage(project_id, request, actor)


async def _storage(project_id: str, request: Request, actor: Actor) -> StorageObject:
    limit = await house_of(request).projects.quota(actor, project_id)
    used = {holder.kind: await holder.stored_bytes(project_id) for holder in request.app.state.holders}
    return StorageObject(
        project_id=project_id, limit_bytes=limit, used_bytes=sum(used.values()), used_bytes_by_kind=used
    )


def _retention(request: Request, days: dict[str, int]) -> RetentionObject:
    shown: dict[str, int | None] = {kind: days.get(kind) for kind in sorted(_kinds(request))}
    return RetentionObject(type="custom" if days else "none", days=shown)


def _kinds(request: Request) -> set[str]:
    return {holder.kind for holder in request.app.state.holders}
