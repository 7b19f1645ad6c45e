"""The HTTP face of the room: OpenAI's paths."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from dayspring.batches.service import Batches
from dayspring.batches.wire import BatchBody, BatchList, BatchObject, batch_object
from dayspring.web.auth import Caller
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["Batches"])


@router.post("/batches", openapi_extra=documented(BatchBody))
async def create_batch(request: Request, caller: Caller) -> BatchObject:
    """Have a file of requests answered, at the batch price, when there is room."""
    body = await read_body(request, BatchBody)
    service: Batches = request.app.state.batches
    return batch_object(await service.create(caller, body.new))


@router.get("/batches")
async def list_batches(
    request: Request, caller: Caller, after: str | None = None, limit: Annotated[int, Query()] = 20
) -> BatchList:
    """List the project's batches, newest first."""
    service: Batches = request.app.state.batches
    found, more = await service.list(caller, after=after, limit=limit)
    data = [batch_object(each) for each in found]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return BatchList(data=data, first_id=first, last_id=last, has_more=more)


@router.get("/batches/{batch_id}")
async def get_batch(batch_id: str, request: Request, caller: Caller) -> BatchObject:
    """Show one batch: its state, how far it is, and its files."""
    service: Batches = request.app.state.batches
    return batch_object(await service.get(caller, batch_id))


@router.post("/batches/{batch_id}/cancel")
async def cancel_batch(batch_id: str, request: Request, caller: Caller) -> BatchObject:
    """Begin no more of its requests; those answered are delivered."""
    service: Batches = request.app.state.batches
    return batch_object(await service.cancel(caller, batch_id))
