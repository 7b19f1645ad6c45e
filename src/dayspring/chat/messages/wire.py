"""The answers' shapes of /v1/messages, for the OpenAPI document. A test holds them and the builder together."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dayspring.chat.wire import RequestAccount

__all__ = ["MessageEvent", "MessageObject", "MessageTokens"]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AnswerBlock(Shape):
    """`text`, `thinking` with its (empty) signature, or a call (`tool_use`)."""

    type: Literal["text", "thinking", "tool_use"]
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


class MessageUsage(Shape):
    """Cached tokens are not part of the input tokens."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class MessageObject(Shape):
    """A whole message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnswerBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"] | None
    stop_sequence: str | None
    usage: MessageUsage


class MessageEvent(BaseModel):
    """One event of a stream; which fields it has is told by its type, as Anthropic has them."""

    model_config = ConfigDict(extra="allow")

    type: str
    message: MessageObject | None = None
    index: int | None = None
    content_block: AnswerBlock | None = None
    usage: MessageUsage | None = None
    dayspring: RequestAccount | None = None


class MessageTokens(Shape):
    input_tokens: int
