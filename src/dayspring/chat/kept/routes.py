"""The HTTP face of stored chat completions: OpenAI's paths below /v1/chat/completions."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from dayspring.chat.kept.service import CompletionPage, KeptCompletions
from dayspring.chat.kept.wire import (
    CompletionDeleted,
    CompletionUpdate,
    KeptCompletion,
    KeptCompletionList,
    KeptMessageList,
)
from dayspring.chat.responses.pages import ItemPage
from dayspring.web.auth import Caller
from dayspring.web.body import documented, read_body
from dayspring.web.json_answer import json_answer
from dayspring.web.openapi import results
from dayspring.web.paging import Limit, Order

__all__ = ["router"]

router = APIRouter(prefix="/v1/chat/completions", tags=["Chat"])

_After = Annotated[str, Query(max_length=80)]
_METADATA = re.compile(r"metadata\[(.{1,64})\]")


@router.get("", responses=results(KeptCompletionList), response_model=None)
async def list_chat_completions(
    request: Request,
    caller: Caller,
    after: _After = "",
    limit: Limit = 20,
    order: Order = "asc",
    model: Annotated[str, Query(pattern=r"^[^\x00]{0,200}$")] = "",
) -> Response:
    """List the stored chat completions, oldest first. `metadata[name]=value` chooses those with this note."""
    wanted = {found[1]: value for name, value in request.query_params.items() if (found := _METADATA.fullmatch(name))}
    kept: KeptCompletions = request.app.state.kept
    return json_answer(await kept.list(caller, CompletionPage(after, limit, order, model, wanted)))


@router.get("/{completion_id}", responses=results(KeptCompletion), response_model=None)
async def get_chat_completion(completion_id: str, request: Request, caller: Caller) -> Response:
    """Show a stored chat completion."""
    kept: KeptCompletions = request.app.state.kept
    return json_answer(await kept.get(caller, completion_id))


@router.post(
    "/{completion_id}",
    responses=results(KeptCompletion),
    openapi_extra=documented(CompletionUpdate),
    response_model=None,
)
async def update_chat_completion(completion_id: str, request: Request, caller: Caller) -> Response:
    """Replace the metadata of a stored chat completion."""
    body = await read_body(request, CompletionUpdate)
    kept: KeptCompletions = request.app.state.kept
    return json_answer(await kept.update(caller, completion_id, body.metadata))


@router.delete("/{completion_id}", responses=results(CompletionDeleted), response_model=None)
async def delete_chat_completion(completion_id: str, request: Request, caller: Caller) -> Response:
    """Delete a stored chat completion."""
    kept: KeptCompletions = request.app.state.kept
    return json_answer(await kept.delete(caller, completion_id))


@router.get("/{completion_id}/messages", responses=results(KeptMessageList), response_model=None)
async def list_chat_completion_messages(
    completion_id: str,
    request: Request,
    caller: Caller,
    after: _After = "",
    limit: Limit = 20,
    order: Order = "asc",
) -> Response:
    """List the messages that a stored chat completion answers."""
    kept: KeptCompletions = request.app.state.kept
    return json_answer(await kept.messages(caller, completion_id, ItemPage(after, limit, order)))
