"""The verb of /v1/rerank: which documents answer a query best.

A model made for it reads the query with each document. Any embedding model does too: the score is then the cosine of
the query's vector and the document's, -1 to 1; one call, each text read once.
"""

import struct
from typing import Any

from dayspring.accounts.principals import Principal
from dayspring.chat.rerank.bodies import RerankBody
from dayspring.contracts.events import Embedding, Rerank
from dayspring.contracts.models import Ability, Model
from dayspring.contracts.registry import engine
from dayspring.contracts.tasks import EmbeddingTask, RerankTask
from dayspring.core.errors import Defect, UnsupportedParameter
from dayspring.dispatch.service import Dispatch
from dayspring.dispatch.values import Order, Receipt, Ticket

__all__ = ["RerankService"]


class RerankService:
    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    async def rerank(self, principal: Principal, body: RerankBody, ticket: Ticket) -> tuple[dict[str, Any], Receipt]:
        """The documents in order, the best first; of equals, the first."""
        model = await self._dispatch.model(principal, body.model, Ability.RERANK, Ability.EMBEDDING)
        task = _task(body, model)
        texts = [each if isinstance(each, str) else each.text for each in body.documents]
        notes = {} if body.user is None else {"user": body.user}
        scores: dict[int, float] = {}
        vectors: list[tuple[float, ...]] = []
        async with self._dispatch.open(Order(ticket, principal, model, task, notes, body.model)) as call:
            async for event in call:
                if isinstance(event, Rerank):
                    scores[event.index] = event.score
                elif isinstance(event, Embedding):
                    vectors.append(struct.unpack(f"<{len(event.vector) // 4}f", event.vector))
            receipt = await call.settle()
        if vectors:
            query, *others = vectors
            scores = {place: _cosine(query, vector) for place, vector in enumerate(others)}
        if len(scores) != len(texts):
            raise Defect(ticket.request_id)
        order = sorted(scores, key=lambda place: (-scores[place], place))[: body.top_n]
        shown = [{"document": {"text": texts[place]}} if body.return_documents else {} for place in order]
        tokens = receipt.usage.input_tokens
        answer = {
            "id": f"rerank-{ticket.request_id.partition('_')[2]}",
            "object": "list",
            "model": call.model.id,
            "results": [
                {"index": place, "relevance_score": scores[place], **document}
                for place, document in zip(order, shown, strict=True)
            ],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return answer, receipt


def _task(body: RerankBody, model: Model) -> RerankTask | EmbeddingTask:
    """Raises UnsupportedParameter for a field outside the shape that no service behind the model could read."""
    extra = dict(body.model_extra or {})
    if extra and not engine(model.engine).speaks_openai:
        raise UnsupportedParameter(next(iter(extra))[:100], "this model has no such option. Leave it out")
    documents = tuple(each if isinstance(each, str) else each.text for each in body.documents)
    if Ability.RERANK in model.abilities:
        return RerankTask(body.query, documents, extra=extra)
    return EmbeddingTask((body.query, *documents), queries=1, extra=extra)


def _cosine(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Of vectors of unit length."""
    return max(-1.0, min(1.0, sum(x * y for x, y in zip(a, b, strict=True))))
