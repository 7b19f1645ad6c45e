"""`/v1/hub/search` and `/v1/hub/plan`: what the hubs have, and what adding one of it would do."""

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from dayspring.accounts.limits import Limiter
from dayspring.accounts.principals import Principal, Scope
from dayspring.contracts.models import Ability
from dayspring.core.errors import PermissionDenied
from dayspring.core.settings import Settings
from dayspring.hub.licences import commercial_use
from dayspring.hub.plan import Plan
from dayspring.hub.search.values import Hit, HubName
from dayspring.hub.service import Hub
from dayspring.hub.sources.address import is_local
from dayspring.web.auth import Admin, Caller
from dayspring.web.paging import Limit

__all__ = ["PlanObject", "check_source", "plan_object", "router"]

router = APIRouter(prefix="/v1/hub", tags=["Hub"])


class Verdict(BaseModel):
    """An answer that may not be known, and why it is given."""

    verdict: Literal["yes", "no", "unknown"]
    reason: str


class FoundModel(BaseModel):
    """One model at a hub. `id` is the address to add it by."""

    id: str
    object: Literal["hub.model"] = "hub.model"
    hub: HubName
    name: str
    page: str
    format: str
    formats: list[str]
    licence: str
    commercial_use: Verdict
    size_bytes: int
    parameters: int
    gated: bool
    downloads: int
    task: str
    fits: Verdict
    here: bool


class SearchFailure(BaseModel):
    """A hub that did not answer."""

    hub: str
    message: str


class SearchPage(BaseModel):
    """What was found, the best of each hub in turn."""

    object: Literal["list"] = "list"
    data: list[FoundModel]
    first_id: str | None
    last_id: str | None
    has_more: Literal[False] = False
    failures: list[SearchFailure]


class PlannedFileObject(BaseModel):
    path: str
    size_bytes: int
    sha256: str


class LicenceObject(BaseModel):
    name: str
    said_by: str
    text: str
    commercial_use: Verdict


class PlanObject(BaseModel):
    """What adding a model would do. It can be added when `refusals` is empty."""

    id: str
    object: Literal["hub.plan"] = "hub.plan"
    source: str
    pinned: str
    files: list[PlannedFileObject]
    size_bytes: int
    download_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int
    memory_limit_bytes: int
    context_tokens: int
    format: str
    engine: str
    abilities: list[str]
    conversion: str
    licence: LicenceObject
    needs_licence_acceptance: bool
    warnings: list[str]
    refusals: list[str]
    metadata: dict[str, Any]


def plan_object(plan: Plan) -> PlanObject:
    """The wire form."""
    use = commercial_use(plan.licence)
    licence = LicenceObject(
        name=plan.licence.name,
        said_by=plan.licence.said_by,
        text=plan.licence.text,
        commercial_use=Verdict(verdict=use.verdict, reason=use.reason),
    )
    same = (
        "id", "source", "pinned", "size_bytes", "download_bytes", "disk_bytes", "disk_free_bytes", "memory_bytes",
        "memory_limit_bytes", "context_tokens", "format", "engine", "conversion", "needs_licence_acceptance",
    )  # fmt: skip
    return PlanObject(
        **{name: getattr(plan, name) for name in same},
        files=[PlannedFileObject(path=f.path, size_bytes=f.size_bytes, sha256=f.sha256) for f in plan.files],
        abilities=[str(each) for each in plan.abilities],
        licence=licence,
        warnings=list(plan.warnings),
        refusals=list(plan.refusals),
        metadata=plan.metadata,
    )


def _found(hit: Hit) -> FoundModel:
    fields = msgspec.to_builtins(hit)
    return FoundModel(id=fields.pop("source"), **fields)


def check_source(request: Request, source: str) -> None:
    """Raises PermissionDenied for a path of this machine, unless the operator lets HTTP name such."""
    settings: Settings = request.app.state.settings
    if is_local(source) and not settings.local_sources:
        raise PermissionDenied(
            "Models on the server's own disk are not added over HTTP",
            "Run 'dayspring models add' on the server's machine, or set DAYSPRING_LOCAL_SOURCES=true.",
        )


def _may_look(caller: Principal) -> None:
    if not caller.may(Scope.MANAGE):
        raise PermissionDenied("This key may not search the hubs", "Use a key with the scope 'manage'.")


@router.get("/search")
async def search(
    request: Request,
    caller: Caller,
    query: str,
    source: Annotated[list[HubName], Query()] = [],  # noqa: B006 - FastAPI copies it
    limit: Limit = 20,
) -> SearchPage:
    """Search Hugging Face, ModelScope and Civitai; with `source`, only those."""
    _may_look(caller)
    hub: Hub = request.app.state.hub
    limiter: Limiter = request.app.state.limiter
    admission = limiter.enter(caller, 1)
    try:
        found = await hub.search(query, source, limit)
    finally:
        admission.leave(0)
    data = [_found(hit) for hit in found.hits]
    return SearchPage(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        failures=[SearchFailure(hub=name, message=message) for name, message in found.failures.items()],
    )


@router.get("/plan")
async def plan(
    request: Request,
    _: Admin,
    source: str,
    id: str | None = None,  # noqa: A002 - the name the user gives it
    sha256: str = "",
    licence: str = "",
    ability: Annotated[list[Ability], Query()] = [],  # noqa: B006 - FastAPI copies it
) -> PlanObject:
    """What adding a model would do. Reads directories and headers only, and small npm packages."""
    check_source(request, source)
    hub: Hub = request.app.state.hub
    return plan_object(await hub.plan(source, id, sha256=sha256, licence=licence, abilities=tuple(ability)))
