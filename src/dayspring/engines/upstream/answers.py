"""What an OpenAI-compatible service answers, as far as it is read here. Unknown fields are passed over.

Every field that services are known to send as null may be null. Anything else of the wrong type makes the answer
malformed, which is an error rather than a guess. One set of shapes serves answers in one piece and pieces of a stream.
"""

from typing import Annotated, Final

import msgspec

__all__ = ["Answer", "Choice", "EmbeddingAnswer", "Logprobs", "Message", "UsageReport", "decode_answer",
           "decode_embeddings"]  # fmt: skip

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class PromptDetails(msgspec.Struct):
    cached_tokens: _Count | None = None


class UsageReport(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    prompt_cache_hit_tokens: _Count | None = None
    """What some services say instead of the details."""

    @property
    def cached_tokens(self) -> int:
        """Never more than the prompt has."""
        details = self.prompt_tokens_details
        cached = (details.cached_tokens if details else None) or self.prompt_cache_hit_tokens or 0
        return min(cached, self.prompt_tokens or 0)


class TopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class ChosenLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: list[TopLogprob] | None = None


class Logprobs(msgspec.Struct):
    """Chat's shape in the first two fields, that of completions in the others."""

    content: list[ChosenLogprob] | None = None
    refusal: list[ChosenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    function: Function
    index: Annotated[int, msgspec.Meta(ge=0, le=4096)] | None = None
    id: str | None = None


class Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    """The other name of `reasoning_content`; services that send both send the same."""
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(msgspec.Struct):
    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    message: Message | None = None
    delta: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Answer(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: UsageReport | None = None
    id: str | None = None
    system_fingerprint: str | None = None
    error: msgspec.Raw = msgspec.Raw()
    """Empty without one."""


class Vector(msgspec.Struct):
    embedding: str | list[float]
    """Base64 of little-endian float32, or numbers."""
    index: int | None = None


class EmbeddingAnswer(msgspec.Struct):
    data: list[Vector] | None = None
    usage: UsageReport | None = None
    id: str | None = None
    error: msgspec.Raw = msgspec.Raw()


_answers: Final = msgspec.json.Decoder(Answer)
_embeddings: Final = msgspec.json.Decoder(EmbeddingAnswer)


def decode_answer(body: bytes) -> Answer | None:
    """An answer or a piece of one; None when it is no such thing."""
    try:
        return _answers.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_embeddings(body: bytes) -> EmbeddingAnswer | None:
    """An embedding answer; None when it is no such thing."""
    try:
        return _embeddings.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
