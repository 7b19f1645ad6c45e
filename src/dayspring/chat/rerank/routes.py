"""The HTTP face of reranking: /v1/rerank, as Cohere, Jina and vLLM have it."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from dayspring.chat.account import account_headers
from dayspring.chat.rerank.bodies import RerankBody
from dayspring.chat.rerank.service import RerankService
from dayspring.chat.rerank.wire import Ranking
from dayspring.dispatch.values import Ticket
from dayspring.web.auth import Caller
from dayspring.web.body import documented, read_body
from dayspring.web.direct import DirectRoute
from dayspring.web.json_answer import json_answer
from dayspring.web.openapi import results
from dayspring.web.sse import unless_client_leaves

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["Rerank"], route_class=DirectRoute)


@router.post("/rerank", responses=results(Ranking), openapi_extra=documented(RerankBody), response_model=None)
async def create_ranking(request: Request, caller: Caller) -> Response:
    """Order documents by how well they answer a query."""
    body = await read_body(request, RerankBody)
    service: RerankService = request.app.state.rerank
    work = service.rerank(caller, body, Ticket(request.scope["dayspring.request_id"]))
    answer, receipt = await unless_client_leaves(request, work)
    return json_answer(answer, headers=account_headers(receipt, caller))
