"""Answers one line of a batch as the route of its endpoint would, and writes it as OpenAI writes such lines.

What holds: a line is charged once however often it is repeated, for its ticket names the batch and the line; what may
pass by itself (a worker that died, a limit, a service that is away) is tried again a few times; what may not is the
line's own error, in the one error shape, and leaves the other lines alone.
What it does not do: decide whether the batch goes on. Unauthenticated is raised, for it concerns every line.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from dayspring.accounts.principals import Principal
from dayspring.batches.lines import Request
from dayspring.batches.values import Outcome, Tally
from dayspring.chat.bodies import ChatCompletionBody, CompletionBody, EmbeddingBody
from dayspring.chat.responses.bodies import ResponseBody
from dayspring.chat.responses.service import ResponsesService
from dayspring.chat.service import ChatService
from dayspring.contracts.models import Ability
from dayspring.core.errors import (
    Busy,
    DayspringError,
    Defect,
    OutOfMemory,
    Unauthenticated,
    Unavailable,
    UnsupportedParameter,
)
from dayspring.core.ids import new_id
from dayspring.dispatch.values import Receipt, Ticket
from dayspring.web.errors import error_body, malformed

__all__ = ["ABILITIES", "Answering", "expired"]

log = logging.getLogger(__name__)

ABILITIES = {
    "/v1/chat/completions": Ability.CHAT,
    "/v1/completions": Ability.COMPLETION,
    "/v1/embeddings": Ability.EMBEDDING,
    "/v1/responses": Ability.CHAT,
}
"""What a model must be able to do for each endpoint."""

_BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatCompletionBody,
    "/v1/completions": CompletionBody,
    "/v1/embeddings": EmbeddingBody,
    "/v1/responses": ResponseBody,
}
_EXPIRED = "The batch's completion window was over before this request was begun. Send it again in another batch."
_TRIES = 6
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 15.0

Who = Callable[[], Awaitable[Principal]]
"""Who began the batch, as they stand now. Raises Unauthenticated."""


class Answering:
    def __init__(self, chat: ChatService, responses: ResponsesService) -> None:
        self._chat = chat
        self._responses = responses

    async def answer(self, who: Who, batch_id: str, endpoint: str, request: Request) -> Outcome:
        """How the line ended. Raises Unauthenticated alone."""
        ticket = Ticket(new_id("req"), f"{batch_id}/{request.number}", "batch")
        try:
            body = _body(endpoint, request.body)
            answer, receipt = await self._patiently(who, endpoint, body, ticket)
        except Unauthenticated:
            raise
        except DayspringError as error:
            return _failed(batch_id, request, ticket.request_id, error)
        except Exception as fault:
            log.error("a line of a batch failed", exc_info=fault, extra={"batch_id": batch_id, "line": request.number})
            return _failed(batch_id, request, ticket.request_id, Defect(ticket.request_id))
        response = {"status_code": 200, "request_id": receipt.request_id, "body": answer}
        return Outcome(request.number, _tally(answer, receipt), _text(batch_id, request, response, None))

    async def _patiently(
        self, who: Who, endpoint: str, body: BaseModel, ticket: Ticket
    ) -> tuple[dict[str, Any], Receipt]:
        """Each try is a request of its own to the books; the ticket's bill key makes them one to the customer."""
        for attempt in range(_TRIES):
            try:
                return await self._once(await who(), endpoint, body, ticket)
            except (Unavailable, Busy) as error:
                if attempt + 1 == _TRIES or isinstance(error, OutOfMemory):
                    raise
                wait_s = max(_FIRST_WAIT_S * 2**attempt, error.retry_after_s or 0)
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))
                ticket = Ticket(new_id("req"), ticket.bill_key, ticket.lane)
        raise Defect(ticket.request_id)

    async def _once(
        self, principal: Principal, endpoint: str, body: BaseModel, ticket: Ticket
    ) -> tuple[dict[str, Any], Receipt]:
        if isinstance(body, ChatCompletionBody):
            return await self._chat.chat(principal, body, ticket)
        if isinstance(body, CompletionBody):
            return await self._chat.complete(principal, body, ticket)
        if isinstance(body, EmbeddingBody):
            return await self._chat.embed(principal, body, ticket)
        if isinstance(body, ResponseBody):
            return await self._responses.create(principal, body, ticket)
        raise ValueError(f"nothing answers {endpoint}")


def expired(batch_id: str, request: Request) -> Outcome:
    """The outcome of a line that was not begun in time."""
    text = _text(batch_id, request, None, {"code": "batch_expired", "message": _EXPIRED})
    return Outcome(request.number, Tally(failed=1, expired=1), text)


def _body(endpoint: str, fields: dict[str, Any]) -> BaseModel:
    """Raises Malformed, UnsupportedParameter."""
    for name in ("stream", "background"):
        if fields.get(name):
            raise UnsupportedParameter(name, "a line of a batch is answered as a whole. Leave it out")
    try:
        return _BODIES[endpoint].model_validate(fields)
    except ValidationError as error:
        raise malformed(error) from None


def _failed(batch_id: str, request: Request, request_id: str, error: DayspringError) -> Outcome:
    response = {"status_code": error.status, "request_id": request_id, "body": error_body(error)}
    return Outcome(request.number, Tally(failed=1), _text(batch_id, request, response, None))


def _text(batch_id: str, request: Request, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    identifier = f"batch_req_{batch_id.removeprefix('batch_')}_{request.number}"
    line = {"id": identifier, "custom_id": request.custom_id, "response": response, "error": error}
    return orjson.dumps(line)


def _tally(answer: dict[str, Any], receipt: Receipt) -> Tally:
    usage = answer.get("usage") or {}
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    return Tally(
        completed=1,
        input_tokens=receipt.usage.input_tokens,
        cached_tokens=min(receipt.usage.cached_tokens, receipt.usage.input_tokens),
        output_tokens=receipt.usage.output_tokens,
        reasoning_tokens=int(details.get("reasoning_tokens") or 0),
    )
