"""One target's answer to one call, from its first bytes to its usage.

What holds: the beginning counts as there when the first event for the caller is, so a service that accepts a stream and
then fails without a token can still be passed over for the next target. An answer that is malformed, cut short or too
long raises UpstreamFailed, for which no other target is asked: it may have been computed, and be on the bill.
"""

import msgspec

from dayspring.contracts.events import Event
from dayspring.contracts.tasks import EmbeddingTask, RerankTask
from dayspring.core.errors import DayspringError, UpstreamFailed
from dayspring.engines.upstream.answers import decode_answer, decode_embeddings
from dayspring.engines.upstream.bodies import Call, encode_body
from dayspring.engines.upstream.exchange import Exchange
from dayspring.engines.upstream.failures import AttemptError, malformed, refusal_inside
from dayspring.engines.upstream.lanes import JSON, SSE, Lane
from dayspring.engines.upstream.rankings import decode_ranking, ranking_events
from dayspring.engines.upstream.sse import EventReader, OversizedEventError
from dayspring.engines.upstream.translation import Translation
from dayspring.engines.upstream.vectors import vector_events

__all__ = ["Answering"]


class Answering:
    """`begin`, then `more` until None, then `close`, whatever happened before."""

    def __init__(self, exchange: Exchange, lane: Lane, call: Call, model: str) -> None:
        self._exchange = exchange
        self._lane = lane
        self._call = call
        self._model = model
        self._translation = Translation(call, model, lane.name)
        self._reader: EventReader | None = None
        self._ended = False
        self._at_eof = False

    async def begin(self, max_event_bytes: int) -> list[Event]:
        """The first events. Raises AttemptError or UpstreamFailed."""
        call = self._call
        body = encode_body(call, self._lane.target)
        if not call.streaming:
            await self._exchange.begin(call.path, body, JSON)
            self._ended = self._at_eof = True
            return self._whole(await self._exchange.read_all())
        await self._exchange.begin(call.path, body, SSE)
        self._reader = EventReader(max_event_bytes)
        events: list[Event] = []
        while not events:
            events = await self._next_events(self._reader)
        self._exchange.first_event_came()
        return [self._translation.started(), *events]

    async def more(self) -> list[Event] | None:
        """The next events, perhaps none; None after the last. Raises AttemptError or UpstreamFailed."""
        if not self._ended and self._reader is not None:
            return await self._next_events(self._reader)
        if not self._at_eof:
            await self._exchange.drain()
        return None

    def counted(self, failed: AttemptError | UpstreamFailed) -> DayspringError:
        """The error for the caller, after the target's circuit breaker was told."""
        if isinstance(failed, UpstreamFailed):
            self._lane.breaker.failed()
            return failed
        if failed.unhealthy:
            self._lane.breaker.failed()
        else:
            self._lane.breaker.succeeded()
        return failed.error

    def close(self) -> None:
        self._exchange.close()

    async def _next_events(self, reader: EventReader) -> list[Event]:
        chunk = await self._exchange.read()
        try:
            pieces = reader.finish() if chunk is None else reader.feed(chunk)
        except OversizedEventError:
            raise malformed(self._model, "sent an event longer than max_event_bytes allows") from None
        events: list[Event] = []
        for piece in pieces:
            if piece == b"[DONE]":
                self._ended = True
                break
            if piece:  # an empty one keeps the connection awake
                events += self._piece(piece)
        if chunk is None:
            self._ended = self._at_eof = True
        if self._ended:
            events += self._translation.finish()
        return events

    def _piece(self, body: bytes) -> list[Event]:
        answer = decode_answer(body)
        if answer is None:
            raise malformed(self._model, "sent an answer that is not of this protocol")
        self._check_error(answer.error)
        return self._translation.take(answer)

    def _whole(self, body: bytes) -> list[Event]:
        if isinstance(self._call.task, RerankTask):
            ranking = decode_ranking(body)
            if ranking is None:
                raise malformed(self._model, "sent an answer that is not of this protocol")
            self._check_error(ranking.error)
            return ranking_events(self._call, ranking, self._model, self._lane.name)
        if not isinstance(self._call.task, EmbeddingTask):
            return self._piece(body) + self._translation.finish()
        answer = decode_embeddings(body)
        if answer is None:
            raise malformed(self._model, "sent an answer that is not of this protocol")
        self._check_error(answer.error)
        return vector_events(self._call, answer, self._model, self._lane.name)

    def _check_error(self, error: msgspec.Raw) -> None:
        if bytes(error) not in (b"", b"null"):
            raise refusal_inside(self._model, self._lane.host, error)
