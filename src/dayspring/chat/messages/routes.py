"""The HTTP face of messages: Anthropic's two paths. `x-api-key` is a key's header here beside `Authorization`."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from dayspring.chat.account import account_headers
from dayspring.chat.messages.bodies import MessageBody, MessageCountBody
from dayspring.chat.messages.service import MessagesService
from dayspring.chat.messages.wire import MessageEvent, MessageObject, MessageTokens
from dayspring.core.errors import DayspringError
from dayspring.dispatch.values import Ticket
from dayspring.web.auth import Caller
from dayspring.web.body import documented, read_body
from dayspring.web.dialects import in_dialect
from dayspring.web.direct import DirectRoute
from dayspring.web.errors import error_body
from dayspring.web.json_answer import json_answer
from dayspring.web.openapi import results
from dayspring.web.sse import EventStream, NamedFraming, unless_client_leaves

__all__ = ["router"]

router = APIRouter(prefix="/v1/messages", tags=["Messages"], route_class=DirectRoute)


class MessageFraming(NamedFraming):
    quiet = b'event: ping\ndata: {"type": "ping"}\n\n'

    def fault(self, error: DayspringError) -> bytes:
        return self.event(in_dialect(error_body(error), error.status, "/v1/messages"))


@router.post(
    "",
    responses=results(MessageObject, stream=MessageEvent),
    openapi_extra=documented(MessageBody),
    response_model=None,
)
async def create_message(request: Request, caller: Caller) -> Response:
    """Answer a conversation, in Anthropic's shapes.

    With `stream: true`: server-sent events, from `message_start` to `message_stop`.
    """
    body = await read_body(request, MessageBody)
    service: MessagesService = request.app.state.messages
    ticket = Ticket(request.scope["dayspring.request_id"])
    if body.stream:
        return EventStream(service.stream(caller, body, ticket), MessageFraming())
    made, receipt = await unless_client_leaves(request, service.create(caller, body, ticket))
    return json_answer(made, headers=account_headers(receipt, caller))


@router.post(
    "/count_tokens",
    responses=results(MessageTokens),
    openapi_extra=documented(MessageCountBody),
    response_model=None,
)
async def count_message_tokens(request: Request, caller: Caller) -> Response:
    """Count the tokens of a conversation without answering it."""
    body = await read_body(request, MessageCountBody)
    service: MessagesService = request.app.state.messages
    return json_answer(await unless_client_leaves(request, service.count(caller, body)))
