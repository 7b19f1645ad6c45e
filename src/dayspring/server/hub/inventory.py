"""What is on this machine and what is loaded: `/v1/hub/models`, loading, unloading, pinning, and OpenAI's DELETE."""

from contextlib import suppress
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Request
from pydantic import BaseModel

from dayspring.compute.service import Compute
from dayspring.compute.status import WorkerStatus
from dayspring.contracts.models import Model
from dayspring.core.errors import NotFound
from dayspring.hub.service import Hub
from dayspring.web.auth import Admin

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["Hub"])


class ModelState(BaseModel):
    """Where a model is: `unloaded`, `loading`, `ready` or `closing`. Pins last until the server stops."""

    id: str
    object: Literal["model.state"] = "model.state"
    state: str
    device: str
    running: int
    pinned: bool
    memory_bytes: int
    load_s: float


class HubModel(BaseModel):
    """Everything known of a model here."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    engine: str
    abilities: list[str]
    format: str
    source: str
    sha256: str
    size_bytes: int
    memory_bytes: int
    licence: str
    context_tokens: int
    dimensions: int
    reads: list[str]
    """Types of content parts that its messages may hold beside text."""
    base: str
    """For an adapter, the model it changes."""
    options: dict[str, Any]
    metadata: dict[str, Any]
    state: ModelState


class HubModelList(BaseModel):
    """Every model here, oldest first."""

    object: Literal["list"] = "list"
    data: list[HubModel]
    first_id: str | None
    last_id: str | None
    has_more: Literal[False] = False


class ModelDeleted(BaseModel):
    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


def _compute(request: Request) -> Compute:
    found: Compute = request.app.state.compute
    return found


def _state(model_id: str, workers: dict[str, WorkerStatus], *, pinned: bool | None = None) -> ModelState:
    worker = workers.get(model_id)
    if worker is None:
        return ModelState(
            id=model_id, state="unloaded", device="", running=0, pinned=bool(pinned), memory_bytes=0, load_s=0
        )
    same = ("state", "device", "running", "memory_bytes", "load_s")
    is_pinned = worker.pinned if pinned is None else pinned
    return ModelState(id=model_id, pinned=is_pinned, **{name: getattr(worker, name) for name in same})


def _workers(request: Request) -> dict[str, WorkerStatus]:
    return {worker.model: worker for worker in _compute(request).status().workers}


def _hub_model(model: Model, state: ModelState) -> HubModel:
    fields = msgspec.structs.asdict(model)
    fields["created"] = fields.pop("created_at")
    fields.pop("path")
    return HubModel(**fields | {"abilities": [str(each) for each in model.abilities]}, state=state)


async def _real(request: Request, model_id: str) -> Model:
    """The model of this id. An alias is no model: what is done to a model is done by its own name."""
    hub: Hub = request.app.state.hub
    model = await hub.get(model_id)
    if model.id != model_id:
        raise NotFound("model", model_id, f"It is an alias: name the model itself, {model.id!r}.")
    return model


@router.get("/hub/models")
async def list_hub_models(request: Request, _: Admin) -> HubModelList:
    """List the models of this machine, with where they came from and whether they are loaded."""
    hub: Hub = request.app.state.hub
    workers = _workers(request)
    data = [_hub_model(model, _state(model.id, workers)) for model in await hub.list()]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return HubModelList(data=data, first_id=ends[0], last_id=ends[1])


@router.post("/models/{model:path}/load")
async def load_model(model: str, request: Request, _: Admin) -> ModelState:
    """Load a model, and answer when it is ready."""
    await _compute(request).load(await _real(request, model))
    return _state(model, _workers(request))


@router.post("/models/{model:path}/unload")
async def unload_model(model: str, request: Request, _: Admin) -> ModelState:
    """Let go of a loaded model. Refused while a request uses it."""
    await _real(request, model)
    await _compute(request).unload(model)
    return _state(model, _workers(request))


@router.post("/models/{model:path}/pin")
async def pin_model(model: str, request: Request, _: Admin) -> ModelState:
    """Once loaded, keep it: neither another model nor idleness unloads it."""
    await _real(request, model)
    _compute(request).pin(model)
    return _state(model, _workers(request), pinned=True)


@router.post("/models/{model:path}/unpin")
async def unpin_model(model: str, request: Request, _: Admin) -> ModelState:
    """Let it be unloaded again when room is needed or nobody uses it."""
    await _real(request, model)
    _compute(request).pin(model, pinned=False)
    return _state(model, _workers(request), pinned=False)


@router.delete("/models/{model:path}")
async def delete_model(model: str, request: Request, caller: Admin) -> ModelDeleted:
    """Take a model and its files off this machine. Refused while a request uses it."""
    hub: Hub = request.app.state.hub
    await _real(request, model)
    with suppress(NotFound):  # not loaded
        await _compute(request).unload(model)
    await hub.remove(model, caller)
    return ModelDeleted(id=model)
