"""The answers' shapes, for the OpenAPI document. The routes write them directly; a test holds the two together."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["ChatCompletion", "ChatCompletionChunk", "EmbeddingList", "TextCompletion", "TextCompletionChunk"]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PromptTokensDetails(Shape):
    cached_tokens: int
    audio_tokens: int


class CompletionTokensDetails(Shape):
    reasoning_tokens: int
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class CompletionUsage(Shape):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class ScoredToken(Shape):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenScore(ScoredToken):
    top_logprobs: list[ScoredToken]


class ChoiceLogprobs(Shape):
    content: list[TokenScore] | None
    refusal: None


class CalledFunction(Shape):
    name: str
    arguments: str


class AnswerToolCall(Shape):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Shape):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    tool_calls: list[AnswerToolCall] | None = None


class ChatChoice(Shape):
    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCompletion(Shape):
    """A whole chat answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChoice]
    usage: CompletionUsage


class TextLogprobs(Shape):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Shape):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"]


class TextCompletion(Shape):
    """A whole text completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[TextChoice]
    usage: CompletionUsage


class EmbeddingObject(Shape):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Shape):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Shape):
    """Vectors, in the order of the inputs."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage


class CalledFunctionDelta(Shape):
    name: str | None = None
    arguments: str


class ToolCallChunk(Shape):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunctionDelta


class MessageDelta(Shape):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallChunk] | None = None


class ChatChunkChoice(Shape):
    index: int
    delta: MessageDelta
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"] | None


class RequestAccount(Shape):
    """For keys that may see it, in nano-units; whole answers have it in `x-dayspring-` headers."""

    price_nanos: int
    cost_nanos: int | None = None
    margin_nanos: int | None = None
    device: str | None = None
    busy_ns: int | None = None


class ChatCompletionChunk(Shape):
    """One event of a chat stream. The last one, where `include_usage` asks for it, has no choices and the usage."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChatChunkChoice]
    usage: CompletionUsage | None = None
    dayspring: RequestAccount | None = None


class TextChunkChoice(Shape):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length", "content_filter"] | None


class TextCompletionChunk(Shape):
    """One event of a completions stream. The last one, where `include_usage` asks for it, has no choices."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[TextChunkChoice]
    usage: CompletionUsage | None = None
    dayspring: RequestAccount | None = None
