"""`/v1/uploads`: large files in parts, as OpenAI's clients send them; ours is the question what has arrived."""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from dayspring.core.errors import Malformed
from dayspring.files.parts import Part
from dayspring.files.uploads import Uploads, UploadState
from dayspring.server.files import ExpiresAfter, FileObject, file_object, form_of
from dayspring.web.auth import Caller
from dayspring.web.body import documented, read_body
from dayspring.web.multipart import form_parts

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["Files"])

_S = 1_000_000_000
_FIELD_BYTES = 64


class UploadBody(BaseModel):
    """What will be sent."""

    bytes: int
    filename: str = Field(min_length=1, max_length=1024)
    purpose: str
    mime_type: str = ""
    """OpenAI's; the content is looked at instead."""
    expires_after: ExpiresAfter | None = None


class CompleteBody(BaseModel):
    """Which parts, in which order. Without ids: all, in the order of their numbers."""

    part_ids: list[str] | None = Field(None, max_length=10_000)
    md5: str = Field("", pattern=r"^([0-9a-fA-F]{32})?$")


class UploadPart(BaseModel):
    """One part that has arrived."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
    part_number: int | None
    bytes: int
    md5: str


class UploadObject(BaseModel):
    """An upload, and what has arrived of it."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    parts: list[UploadPart]
    file: FileObject | None


def _part(part: Part) -> UploadPart:
    return UploadPart(
        id=part.id,
        created_at=part.created_at_ns // _S,
        upload_id=part.upload_id,
        part_number=part.number,
        bytes=part.size_bytes,
        md5=part.md5,
    )


def _upload(state: UploadState) -> UploadObject:
    upload = state.upload
    fields: dict[str, Any] = {
        "id": upload.id,
        "bytes": upload.size_bytes,
        "created_at": upload.created_at_ns // _S,
        "expires_at": upload.expires_at_ns // _S,
        "filename": upload.name,
        "purpose": upload.purpose,
        "status": state.status,
        "parts": [_part(part) for part in state.parts],
        "file": None if state.file is None else file_object(state.file),
    }
    return UploadObject(**fields)


@router.post("/uploads", openapi_extra=documented(UploadBody))
async def create_upload(request: Request, caller: Caller) -> UploadObject:
    """Begin an upload in parts. It ends by itself after an hour."""
    body = await read_body(request, UploadBody)
    uploads: Uploads = request.app.state.uploads
    return _upload(
        await uploads.create(
            caller,
            name=body.filename,
            purpose=body.purpose,
            size_bytes=body.bytes,
            expires_after_s=None if body.expires_after is None else body.expires_after.seconds,
        )
    )


@router.get("/uploads/{upload_id}")
async def get_upload(upload_id: str, request: Request, caller: Caller) -> UploadObject:
    """Show an upload and the parts that have arrived, so that a cut one can go on."""
    uploads: Uploads = request.app.state.uploads
    return _upload(await uploads.get(caller, upload_id))


_FORM = form_of({"data": {"type": "string", "format": "binary"}}, {"part_number": {"type": "integer"}})


@router.post("/uploads/{upload_id}/parts", openapi_extra=_FORM)
async def create_part(upload_id: str, request: Request, caller: Caller) -> UploadPart:
    """Send a part of up to 64 MiB: in any order, several at once. With a number it may be sent again."""
    uploads: Uploads = request.app.state.uploads
    number: int | None = None
    incoming = await uploads.begin_part(caller, upload_id)
    async with incoming:
        seen = False
        async for part in form_parts(request):
            if part.name == "part_number" and part.filename is None:
                number = _number(await part.text(_FIELD_BYTES))
            elif part.name == "data" and not seen:
                seen = True
                async for chunk in part.chunks():
                    await incoming.write(chunk)
            else:
                raise Malformed("the form has one 'data' and perhaps a 'part_number'. Correct it.", location=part.name)
        if not seen:
            raise Malformed("there is no data in it. Send some.", location="data")
        return _part(await uploads.keep_part(caller, upload_id, incoming, number))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Malformed("it is a whole number. Correct it.", location="part_number")
    return int(text)


@router.post("/uploads/{upload_id}/complete", openapi_extra=documented(CompleteBody))
async def complete_upload(upload_id: str, request: Request, caller: Caller) -> UploadObject:
    """Make one file of the parts. Asked again, it answers the same."""
    body = await read_body(request, CompleteBody)
    uploads: Uploads = request.app.state.uploads
    return _upload(await uploads.complete(caller, upload_id, body.part_ids, body.md5))


@router.post("/uploads/{upload_id}/cancel")
async def cancel_upload(upload_id: str, request: Request, caller: Caller) -> UploadObject:
    """End an upload; what had arrived goes."""
    uploads: Uploads = request.app.state.uploads
    return _upload(await uploads.cancel(caller, upload_id))
