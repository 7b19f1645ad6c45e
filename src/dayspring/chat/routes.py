"""The HTTP face of the room: OpenAI's three paths."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from dayspring.chat.account import account_headers
from dayspring.chat.bodies import ChatCompletionBody, CompletionBody, EmbeddingBody
from dayspring.chat.service import ChatService
from dayspring.chat.wire import (
    ChatCompletion,
    ChatCompletionChunk,
    EmbeddingList,
    TextCompletion,
    TextCompletionChunk,
)
from dayspring.dispatch.values import Ticket
from dayspring.web.auth import Caller
from dayspring.web.body import documented, read_body
from dayspring.web.direct import DirectRoute
from dayspring.web.json_answer import json_answer
from dayspring.web.openapi import results
from dayspring.web.sse import EventStream, unless_client_leaves

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["Chat"], route_class=DirectRoute)


@router.post(
    "/chat/completions",
    responses=results(ChatCompletion, stream=ChatCompletionChunk),
    openapi_extra=documented(ChatCompletionBody),
    response_model=None,
)
async def create_chat_completion(request: Request, caller: Caller) -> Response:
    """Answer a conversation.

    With `stream: true`: server-sent events, one chunk each, then `data: [DONE]`.
    """
    body = await read_body(request, ChatCompletionBody)
    service: ChatService = request.app.state.chat
    ticket = Ticket(request.scope["dayspring.request_id"])
    if body.stream:
        return EventStream(service.chat_stream(caller, body, ticket))
    answer, receipt = await unless_client_leaves(request, service.chat(caller, body, ticket))
    return json_answer(answer, headers=account_headers(receipt, caller))


@router.post(
    "/completions",
    responses=results(TextCompletion, stream=TextCompletionChunk),
    openapi_extra=documented(CompletionBody),
    response_model=None,
)
async def create_completion(request: Request, caller: Caller) -> Response:
    """Continue a text.

    With `stream: true`: server-sent events, one chunk each, then `data: [DONE]`.
    """
    body = await read_body(request, CompletionBody)
    service: ChatService = request.app.state.chat
    ticket = Ticket(request.scope["dayspring.request_id"])
    if body.stream:
        return EventStream(service.complete_stream(caller, body, ticket))
    answer, receipt = await unless_client_leaves(request, service.complete(caller, body, ticket))
    return json_answer(answer, headers=account_headers(receipt, caller))


@router.post(
    "/embeddings", responses=results(EmbeddingList), openapi_extra=documented(EmbeddingBody), response_model=None
)
async def create_embeddings(request: Request, caller: Caller) -> Response:
    """Turn texts into vectors."""
    body = await read_body(request, EmbeddingBody)
    service: ChatService = request.app.state.chat
    work = service.embed(caller, body, Ticket(request.scope["dayspring.request_id"]))
    answer, receipt = await unless_client_leaves(request, work)
    return json_answer(answer, headers=account_headers(receipt, caller))
