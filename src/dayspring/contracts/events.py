"""What a model answers: a stream of small values, ended by exactly one Usage.

An engine yields these; dispatch counts them, so that a stream cut short is still paid for by what was produced.
"""

import msgspec

__all__ = [
    "ChoiceEnd", "Embedding", "Event", "Rerank", "Started", "TextDelta", "TokenLogprob", "ToolCallDelta", "Usage",
]  # fmt: skip


class TokenLogprob(msgspec.Struct, frozen=True, omit_defaults=True):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top: tuple["TokenLogprob", ...] = ()


class Started(msgspec.Struct, frozen=True, omit_defaults=True, tag="started"):
    """The engine began to compute; before this a request waits for its turn and costs no device time.

    Optional for an engine that never queues: the host then counts from the call.
    """

    input_tokens: int = 0
    """All tokens of the prompt or prompts, those found in a cache too; 0 when not known yet."""
    cached_tokens: int = 0
    upstream: str = ""
    """As in Usage: who is at work, so that an answer cut short has its bill."""


class TextDelta(msgspec.Struct, frozen=True, omit_defaults=True, tag="text"):
    text: str
    index: int = 0
    tokens: int = 1
    """Output tokens this delta stands for; the sum over a whole stream is Usage.output_tokens."""
    kind: str = "content"
    """`content`, `reasoning` or `refusal`."""
    logprobs: tuple[TokenLogprob, ...] | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, omit_defaults=True, tag="tool_call"):
    arguments: str = ""
    """A fragment of the JSON text."""
    index: int = 0
    """Choice."""
    call_index: int = 0
    id: str = ""
    """Set on the first delta of a call, with `name`."""
    name: str = ""
    tokens: int = 1


class ChoiceEnd(msgspec.Struct, frozen=True, omit_defaults=True, tag="end"):
    reason: str
    """`stop`, `length`, `tool_calls` or `content_filter`."""
    index: int = 0
    stop: str = ""
    """The stop sequence that ended it, where the engine tells."""


class Embedding(msgspec.Struct, frozen=True, tag="embedding"):
    index: int
    vector: bytes
    """Little-endian float32, `dimensions` of them, of unit length."""


class Rerank(msgspec.Struct, frozen=True, tag="rerank"):
    index: int
    """Of the document."""
    score: float
    """How well it answers the query: larger is better."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, tag="usage"):
    """The last event. Cached tokens are part of the input tokens."""

    input_tokens: int
    output_tokens: int = 0
    cached_tokens: int = 0
    upstream_id: str = ""
    """The id an upstream service gave its answer, for its bill."""
    fingerprint: str = ""
    """What made the answer: engine, its version, and what changes its arithmetic."""
    upstream: str = ""
    """Which of a model's upstream targets answered; empty for our own engines."""
    estimated: bool = False
    """A service reported no counts, so these are cautious ones: see the engine for how it counts."""


Event = Started | TextDelta | ToolCallDelta | ChoiceEnd | Embedding | Rerank | Usage
