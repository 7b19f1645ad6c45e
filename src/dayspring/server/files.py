"""`/v1/files`: OpenAI's files, read and sent a piece at a time."""

from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from dayspring.accounts.principals import Principal
from dayspring.core.errors import Malformed
from dayspring.files.names import disposition
from dayspring.files.purposes import PURPOSES, check_purpose
from dayspring.files.records import File, FileQuery
from dayspring.files.service import Files
from dayspring.web.auth import Caller
from dayspring.web.multipart import form_parts
from dayspring.web.ranges import span_asked

__all__ = ["ExpiresAfter", "FileObject", "expiry", "file_object", "form_of", "router"]

router = APIRouter(prefix="/v1", tags=["Files"])

_S = 1_000_000_000
_FIELD_BYTES = 1024


class FileObject(BaseModel):
    """One file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: str | None = None
    media_type: str
    """What the content is, whatever its name says."""


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(BaseModel):
    """A file that is no more."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ExpiresAfter(BaseModel):
    """When the file goes by itself: so many seconds after it was made."""

    anchor: Literal["created_at"] = "created_at"
    seconds: int


class FileParameters(BaseModel):
    purpose: str = ""
    limit: int = Field(10_000, ge=1, le=10_000)
    after: str = ""
    order: Literal["asc", "desc"] = "desc"


def file_object(file: File) -> FileObject:
    """The wire form."""
    return FileObject(
        id=file.id,
        bytes=file.size_bytes,
        created_at=file.created_at_ns // _S,
        expires_at=None if file.expires_at_ns is None else file.expires_at_ns // _S,
        filename=file.name,
        purpose=file.purpose,
        media_type=file.media_type,
    )


def form_of(required: dict[str, Any], optional: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` for a route that reads such a form."""
    schema = {"type": "object", "required": sorted(required), "properties": required | optional}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def expiry(fields: dict[str, str]) -> int | None:
    """Seconds from `expires_after[anchor]` and `expires_after[seconds]`. Raises Malformed."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise Malformed("the anchor is created_at. Send it, or leave both out.", location="expires_after[anchor]")
    if seconds is None or not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10):
        raise Malformed("it is a number of seconds. Correct it.", location="expires_after[seconds]")
    return int(seconds)


_FORM = form_of(
    {"file": {"type": "string", "format": "binary"}, "purpose": {"type": "string", "enum": list(PURPOSES)}},
    {"expires_after[anchor]": {"type": "string"}, "expires_after[seconds]": {"type": "integer"}},
)


@router.post("/files", openapi_extra=_FORM)
async def create_file(request: Request, caller: Caller) -> FileObject:
    """Store a file. What it is is told by its content, and must fit its purpose."""
    files: Files = request.app.state.files
    return file_object(await _received(request, caller, files))


async def _received(request: Request, caller: Principal, files: Files) -> File:
    """Fields and file in whatever order they come."""
    fields: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        incoming, name = None, ""
        async for part in form_parts(request):
            if part.filename is None:
                fields[part.name] = await part.text(_FIELD_BYTES)
            elif part.name != "file" or incoming is not None:
                raise Malformed("the form has one file, named 'file'. Correct it.", location=part.name)
            else:
                if "purpose" in fields:
                    check_purpose(fields["purpose"])
                name = part.filename
                incoming = await stack.enter_async_context(await files.begin(caller))
                async for chunk in part.chunks():
                    await incoming.write(chunk)
        if incoming is None:
            raise Malformed("there is no file in it. Send one.", location="file")
        purpose, expires_after_s = fields.get("purpose", ""), expiry(fields)
        return await files.keep(caller, incoming, name=name, purpose=purpose, expires_after_s=expires_after_s)


@router.get("/files")
async def list_files(request: Request, caller: Caller, parameters: Annotated[FileParameters, Query()]) -> FileList:
    """List the project's files, newest first."""
    files: Files = request.app.state.files
    page = await files.list(caller, FileQuery(**parameters.model_dump()))
    data = [file_object(file) for file in page.data]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return FileList(data=data, first_id=first, last_id=last, has_more=page.has_more)


@router.get("/files/{file_id}")
async def get_file(file_id: str, request: Request, caller: Caller) -> FileObject:
    """Show one file."""
    files: Files = request.app.state.files
    return file_object(await files.get(caller, file_id))


@router.delete("/files/{file_id}")
async def delete_file(file_id: str, request: Request, caller: Caller) -> FileDeleted:
    """Delete a file. Who is reading it reads to its end."""
    files: Files = request.app.state.files
    await files.delete(caller, file_id)
    return FileDeleted(id=file_id)


_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


@router.get(
    "/files/{file_id}/content",
    response_class=Response,
    responses={
        200: {"description": "The content.", "content": _BINARY},
        206: {"description": "The part that the Range header asks for.", "content": _BINARY},
    },
)
async def get_content(file_id: str, request: Request, caller: Caller) -> StreamingResponse:
    """The content, to be saved: a browser is told not to show it. With a Range header, that part of it."""
    files: Files = request.app.state.files
    span = None
    if "range" in request.headers:
        span = span_asked(request, (await files.get(caller, file_id)).size_bytes)
    file, chunks = await files.content(caller, file_id, span)
    start, stop = span or (0, file.size_bytes)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(file.name),
        "Content-Length": str(stop - start),
        "Cache-Control": "private, no-store",
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size_bytes}"
    return StreamingResponse(chunks, 206 if span else 200, headers=headers, media_type=file.media_type)
