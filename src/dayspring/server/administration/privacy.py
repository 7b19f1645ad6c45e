"""A person's data over HTTP: all of it as a zip, or gone. For our users, and for whom a client names as end user."""

import tempfile
from collections.abc import AsyncIterator
from typing import IO, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from dayspring.accounts.administration.privacy import Privacy
from dayspring.accounts.principals import Principal
from dayspring.contracts.holdings import Subject
from dayspring.server.administration.wire import Strict, house_of
from dayspring.web.auth import Actor
from dayspring.web.body import documented, read_body

__all__ = ["router"]

router = APIRouter(prefix="/v1/organization", tags=["Administration"])

_READ_BYTES = 1 << 18
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"description": "A zip.", "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}
}


class EndUserBody(Strict):
    """Whom clients name in `user` or `safety_identifier`."""

    end_user: str = Field(min_length=1, max_length=512)


class EndUserErased(BaseModel):
    object: Literal["end_user.erased"] = "end_user.erased"
    erased: int
    """How many kept things went."""


@router.get("/users/{user_id}/export", response_class=StreamingResponse, responses=_ZIP)
async def export_user(user_id: str, request: Request, actor: Actor) -> StreamingResponse:
    """Everything kept of a user, as a zip. A user may ask for their own."""
    privacy: Privacy = request.app.state.privacy
    return await _zip(request, actor, await privacy.user(actor, user_id), user_id)


@router.post(
    "/end_users/export", response_class=StreamingResponse, responses=_ZIP, openapi_extra=documented(EndUserBody)
)
async def export_end_user(request: Request, actor: Actor) -> StreamingResponse:
    """Everything kept of an end user, as a zip."""
    body = await read_body(request, EndUserBody)
    privacy: Privacy = request.app.state.privacy
    return await _zip(request, actor, await privacy.end_user(actor, body.end_user), "end_user")


@router.post("/end_users/erase", openapi_extra=documented(EndUserBody))
async def erase_end_user(request: Request, actor: Actor) -> EndUserErased:
    """Erase everything kept of an end user. The books stay, and name nobody."""
    body = await read_body(request, EndUserBody)
    privacy: Privacy = request.app.state.privacy
    return EndUserErased(erased=await privacy.erase_end_user(actor, body.end_user))


async def _zip(request: Request, actor: Principal, subject: Subject, name: str) -> StreamingResponse:
    """The export, made on disk first: it may be larger than memory, and a failure is still an error answer."""
    privacy: Privacy = request.app.state.privacy
    file = tempfile.TemporaryFile(dir=house_of(request).settings.home)  # noqa: SIM115 - closed by the stream
    try:
        await privacy.export(actor, subject, file)
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = {"Content-Disposition": f"attachment; filename={name}.zip", "Content-Length": str(size)}
    return StreamingResponse(_pieces(file), media_type="application/zip", headers=headers)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while piece := await run_in_threadpool(file.read, _READ_BYTES):
            yield piece
