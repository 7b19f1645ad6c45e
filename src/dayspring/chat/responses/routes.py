"""The HTTP face of responses: OpenAI's paths under /v1/responses."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from dayspring.chat.account import account_headers
from dayspring.chat.responses.bodies import ResponseBody, TokenCountBody
from dayspring.chat.responses.pages import ItemPage
from dayspring.chat.responses.service import ResponsesService
from dayspring.chat.responses.wire import InputItemList, InputTokens, ResponseDeleted, ResponseEvent, ResponseObject
from dayspring.core.errors import UnsupportedParameter
from dayspring.dispatch.values import Ticket
from dayspring.web.auth import Caller
from dayspring.web.body import documented, read_body
from dayspring.web.json_answer import json_answer
from dayspring.web.openapi import results
from dayspring.web.paging import Limit, Order
from dayspring.web.sse import EventStream, NamedFraming, unless_client_leaves

__all__ = ["router"]

router = APIRouter(prefix="/v1/responses", tags=["Responses"])


@router.post(
    "",
    responses=results(ResponseObject, stream=ResponseEvent),
    openapi_extra=documented(ResponseBody),
    response_model=None,
)
async def create_response(request: Request, caller: Caller) -> Response:
    """Answer an input.

    With `stream: true`: server-sent events, the last of which has the whole response. With `background: true`: at once,
    and the work goes on.
    """
    body = await read_body(request, ResponseBody)
    service: ResponsesService = request.app.state.responses
    ticket = Ticket(request.scope["dayspring.request_id"])
    if body.stream:
        make = service.begin_stream if body.background else service.stream
        return EventStream(make(caller, body, ticket), NamedFraming())
    if body.background:
        return json_answer(await service.begin(caller, body, ticket))
    made, receipt = await unless_client_leaves(request, service.create(caller, body, ticket))
    return json_answer(made, headers=account_headers(receipt, caller))


@router.post(
    "/input_tokens",
    responses=results(InputTokens),
    openapi_extra=documented(TokenCountBody),
    response_model=None,
)
async def count_input_tokens(request: Request, caller: Caller) -> Response:
    """Count the tokens of an input without answering it."""
    body = await read_body(request, TokenCountBody)
    service: ResponsesService = request.app.state.responses
    return json_answer(await unless_client_leaves(request, service.count(caller, body)))


@router.get("/{response_id}", responses=results(ResponseObject, stream=ResponseEvent), response_model=None)
async def get_response(
    response_id: str,
    request: Request,
    caller: Caller,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1, le=2**31)] = -1,
    include_obfuscation: bool = False,
) -> Response:
    """A stored response; with `stream=true` its events behind number `starting_after`, those to come too."""
    if include_obfuscation:
        raise UnsupportedParameter("include_obfuscation", "no padding is sent here. Leave it out")
    service: ResponsesService = request.app.state.responses
    if stream:
        return EventStream(service.resume(caller, response_id, starting_after), NamedFraming())
    return json_answer(await service.get(caller, response_id))


@router.delete("/{response_id}", responses=results(ResponseDeleted), response_model=None)
async def delete_response(response_id: str, request: Request, caller: Caller) -> Response:
    """Delete a stored response. What follows it can no longer go on from it."""
    service: ResponsesService = request.app.state.responses
    return json_answer(await service.delete(caller, response_id))


@router.post("/{response_id}/cancel", responses=results(ResponseObject), response_model=None)
async def cancel_response(response_id: str, request: Request, caller: Caller) -> Response:
    """End a response that is made in the background. What was produced is paid and kept."""
    service: ResponsesService = request.app.state.responses
    return json_answer(await service.cancel(caller, response_id))


@router.get("/{response_id}/input_items", responses=results(InputItemList), response_model=None)
async def list_input_items(
    response_id: str,
    request: Request,
    caller: Caller,
    after: Annotated[str, Query(max_length=64)] = "",
    limit: Limit = 20,
    order: Order = "desc",
) -> Response:
    """What went into a response, newest first. Of a conversation: this turn's own items."""
    service: ResponsesService = request.app.state.responses
    return json_answer(await service.input_items(caller, response_id, ItemPage(after, limit, order)))
