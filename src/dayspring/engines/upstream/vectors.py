"""Embedding answers as vectors of unit length, without numpy: the server process does not import it.

A vector that holds no numbers, none, or only zeros, and one of another length than its neighbours, makes the answer
malformed.
"""

import binascii
import math
import sys
from array import array

from dayspring.contracts.events import Embedding, Event, Usage
from dayspring.engines.upstream.answers import EmbeddingAnswer, UsageReport, Vector
from dayspring.engines.upstream.bodies import Call, input_estimate
from dayspring.engines.upstream.failures import malformed

__all__ = ["vector_events"]

_UNIT_TOLERANCE = 1e-6


def vector_events(call: Call, answer: EmbeddingAnswer, model: str, target: str) -> list[Event]:
    """One Embedding for each input, in order, and the Usage. Raises UpstreamFailed."""
    found = answer.data or []
    placed = {place if one.index is None else one.index: one for place, one in enumerate(found)}
    if len(found) != call.choices or placed.keys() != set(range(call.choices)):
        raise malformed(model, "answered with another number of vectors than was asked for")
    events: list[Event] = []
    dimensions = getattr(call.task, "dimensions", None)
    for index in range(call.choices):
        packed = _unit(placed[index])
        if packed is None or (dimensions is not None and len(packed) != 4 * dimensions):
            raise malformed(model, "answered with a vector that cannot be used")
        dimensions = len(packed) // 4
        events.append(Embedding(index, packed))
    report = answer.usage or UsageReport()
    known = report.prompt_tokens is not None
    tokens = input_estimate(call.task) if report.prompt_tokens is None else report.prompt_tokens
    events.append(
        Usage(
            tokens,
            cached_tokens=report.cached_tokens,
            upstream_id=(answer.id or "")[:200],
            upstream=target,
            estimated=not known,
        )
    )
    return events


def _unit(one: Vector) -> bytes | None:
    """Little-endian float32 of length one; None for what is no direction."""
    values = array("f")
    try:
        if isinstance(one.embedding, str):
            values.frombytes(binascii.a2b_base64(one.embedding.encode("ascii"), strict_mode=True))
            if sys.byteorder == "big":
                values.byteswap()
        else:
            values.extend(one.embedding)
    except (ValueError, OverflowError):
        return None
    length = math.hypot(*values)
    if not length or not math.isfinite(length):
        return None
    if abs(length - 1) > _UNIT_TOLERANCE:
        values = array("f", (value / length for value in values))
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
