"""Rerank answers as events: the shape that Cohere, Jina and vLLM share, `results` of an index and a `relevance_score`.

An answer that leaves a document out, names one twice or gives no number makes the answer malformed.
"""

import math
from typing import Final

import msgspec

from dayspring.contracts.events import Event, Rerank, Usage
from dayspring.engines.upstream.bodies import Call, input_estimate
from dayspring.engines.upstream.failures import malformed

__all__ = ["RankingAnswer", "decode_ranking", "ranking_events"]


class _Result(msgspec.Struct):
    index: int
    relevance_score: float


class _Report(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class RankingAnswer(msgspec.Struct):
    results: list[_Result] | None = None
    usage: _Report | None = None
    id: str | None = None
    error: msgspec.Raw = msgspec.Raw()
    """Empty without one."""


_rankings: Final = msgspec.json.Decoder(RankingAnswer)


def decode_ranking(body: bytes) -> RankingAnswer | None:
    """A rerank answer; None when it is no such thing."""
    try:
        return _rankings.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def ranking_events(call: Call, answer: RankingAnswer, model: str, target: str) -> list[Event]:
    """One Rerank for each document, in order, and the Usage. Raises UpstreamFailed."""
    found = answer.results or []
    scores = {one.index: one.relevance_score for one in found}
    if len(found) != call.choices or scores.keys() != set(range(call.choices)):
        raise malformed(model, "answered with another number of scores than was asked for")
    if not all(map(math.isfinite, scores.values())):
        raise malformed(model, "answered with a score that is no number")
    report = answer.usage or _Report()
    tokens = report.total_tokens if report.prompt_tokens is None else report.prompt_tokens
    counted = input_estimate(call.task) if tokens is None else max(tokens, 0)
    ranked: list[Event] = [Rerank(index, scores[index]) for index in range(call.choices)]
    usage = Usage(counted, upstream_id=(answer.id or "")[:200], upstream=target, estimated=tokens is None)
    return [*ranked, usage]
