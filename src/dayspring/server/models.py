"""`/v1/models`: what a key may call, in OpenAI's shape, with what else a client may want to know."""

from contextlib import suppress
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from dayspring.accounts.principals import Principal, Scope
from dayspring.contracts.models import Model
from dayspring.core.errors import NotFound, PermissionDenied
from dayspring.hub.service import Hub
from dayspring.web.auth import Caller

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["Models"])


class ModelObject(BaseModel):
    """One model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    abilities: list[str]
    context_tokens: int
    dimensions: int
    licence: str
    reads: list[str] = []
    """Types of content parts that its messages may hold beside text: `image_url`."""
    alias_of: list[str] = []
    """For an alias, the models it leads to, in the order in which they are tried; an answer names its own."""


class ModelList(BaseModel):
    """All models a key may call."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


@router.get("/models")
async def list_models(request: Request, caller: Caller) -> ModelList:
    """List the models this key may call."""
    _check_scope(caller)
    hub: Hub = request.app.state.hub
    data = [model_object(each) for each in await hub.list() if caller.may_use(each.id)]
    for alias in await hub.aliases():
        if caller.may_use(alias.name):
            with suppress(NotFound):  # none of its targets is here
                data.append(_named(hub, alias.name, await hub.get(alias.name)))
    return ModelList(data=data)


@router.get("/models/{model:path}")
async def get_model(model: str, request: Request, caller: Caller) -> ModelObject:
    """Show one model."""
    return _named(request.app.state.hub, model, await visible_model(request, caller, model))


async def visible_model(request: Request, caller: Principal, model_id: str) -> Model:
    """The model, or NotFound, which is also the answer for one this key may not use."""
    _check_scope(caller)
    hub: Hub = request.app.state.hub
    if not caller.may_use(model_id):
        raise NotFound("model", model_id, "GET /v1/models lists those this key may use.", param="model")
    return await hub.get(model_id)


def _named(hub: Hub, name: str, model: Model) -> ModelObject:
    """The model under the name it was asked by."""
    if name == model.id:
        return model_object(model)
    way = [model.id, *(each.id for each in hub.fallbacks(name))]
    return model_object(model).model_copy(update={"id": name, "alias_of": way})


def _check_scope(caller: Principal) -> None:
    if not caller.may(Scope.INFERENCE):
        raise PermissionDenied("This key may not call models", "Use a key with the scope 'inference'.")


def model_object(model: Model) -> ModelObject:
    """The wire form."""
    fields: dict[str, Any] = {
        "id": model.id,
        "created": model.created_at,
        "owned_by": model.owned_by or "dayspring",
        "abilities": [str(each) for each in model.abilities],
        "context_tokens": model.context_tokens,
        "dimensions": model.dimensions,
        "licence": model.licence,
        "reads": [str(each) for each in model.reads],
    }
    return ModelObject(**fields)
