"""`/v1/hub/aliases`: names that stand for models, and what to try when the first is not there."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from dayspring.core.errors import NotFound
from dayspring.hub.service import Hub
from dayspring.store.aliases import Alias
from dayspring.web.auth import Admin
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/hub", tags=["Hub"])


class AliasBody(BaseModel):
    """The target first, then the fallbacks in order: ids of models, or other aliases."""

    model_config = ConfigDict(extra="forbid")

    target: str = Field(min_length=1, max_length=128)
    fallbacks: list[str] = Field([], max_length=7)


class AliasObject(BaseModel):
    """A name clients may send as `model`."""

    id: str
    object: Literal["model.alias"] = "model.alias"
    target: str
    fallbacks: list[str]
    models: list[str]
    created_at: int
    updated_at: int


class AliasList(BaseModel):
    """Every alias, by name."""

    object: Literal["list"] = "list"
    data: list[AliasObject]
    first_id: str | None
    last_id: str | None
    has_more: Literal[False] = False


class AliasDeleted(BaseModel):
    id: str
    object: Literal["model.alias"] = "model.alias"
    deleted: Literal[True] = True


async def _object(hub: Hub, alias: Alias) -> AliasObject:
    try:
        models = [(await hub.get(alias.name)).id, *(each.id for each in hub.fallbacks(alias.name))]
    except NotFound:
        models = []  # none of its targets is here any more
    return AliasObject(
        id=alias.name,
        target=alias.targets[0],
        fallbacks=list(alias.targets[1:]),
        models=models,
        created_at=alias.created_at,
        updated_at=alias.updated_at,
    )


@router.get("/aliases")
async def list_aliases(request: Request, _: Admin) -> AliasList:
    """List the aliases. `models` is what a request with the name tries, in order."""
    hub: Hub = request.app.state.hub
    data = [await _object(hub, alias) for alias in await hub.aliases()]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return AliasList(data=data, first_id=ends[0], last_id=ends[1])


@router.post("/aliases/{alias:path}", openapi_extra=documented(AliasBody))
async def set_alias(alias: str, request: Request, caller: Admin) -> AliasObject:
    """Make an alias, or let one lead elsewhere."""
    body = await read_body(request, AliasBody)
    hub: Hub = request.app.state.hub
    return await _object(hub, await hub.set_alias(alias, (body.target, *body.fallbacks), caller))


@router.delete("/aliases/{alias:path}")
async def delete_alias(alias: str, request: Request, caller: Admin) -> AliasDeleted:
    """Remove an alias. The models stay."""
    hub: Hub = request.app.state.hub
    await hub.remove_alias(alias, caller)
    return AliasDeleted(id=alias)
