"""The HTTP bodies of chat, completions and embeddings: OpenAI's fields, with their limits.

Every field OpenAI documents is declared, so that a wrong type is refused and nothing is dropped in silence. A field
that no engine here can honour is refused by name in `chat.reading`; fields outside OpenAI's list are kept for engines
that pass them on, and refused for the others.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "ChatCompletionBody",
    "CompletionBody",
    "Drawn",
    "EmbeddingBody",
    "FunctionTool",
    "ImagePart",
    "ImageUrl",
    "Message",
    "ResponseFormat",
    "StreamOptions",
]

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
ModelId = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
EndUser = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$")]
"""Whom a client asks for. It becomes a column of its own, and PostgreSQL's texts hold no NUL."""
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
MetadataKey = Annotated[str, StringConstraints(max_length=64)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class TextPart(Strict):
    type: Literal["text"]
    text: str


class RefusalPart(Strict):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(Open):
    url: Annotated[str, StringConstraints(min_length=1)]
    """A `data:` URL, or an address that the server fetches."""
    detail: Literal["auto", "low", "high", "original"] | None = None
    """`low`: at most 512 pixels a side. The others: as much as the model reads."""


class ImagePart(Open):
    type: Literal["image_url"]
    image_url: ImageUrl


class OtherPart(Open):
    """Sound or a file: understood by the wire, refused by models that have no such ability."""

    type: Literal["input_audio", "file"]


Content = str | list[Annotated[TextPart | RefusalPart | ImagePart | OtherPart, Field(discriminator="type")]]


class CalledFunction(Strict):
    name: str
    arguments: str


class ToolCall(Strict):
    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Open):
    """One turn. `tool` messages answer the call named by `tool_call_id`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None


class Function(Strict):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    name: Name


class NamedTool(Strict):
    type: Literal["function"]
    function: NamedFunction


class JsonSchema(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: Name
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Open):
    include_usage: bool = False


class Drawn(Open):
    """How tokens are drawn: shared by chat and completions."""

    model: ModelId
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(None, max_length=1024)
    n: int | None = Field(None, ge=1, le=16)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, lt=2**31)
    user: EndUser | None = None
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, gt=0, le=4)
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=16)


class ChatCompletionBody(Drawn):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1, lt=2**31)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: EndUser | None = None


class CompletionBody(Drawn):
    """POST /v1/completions. Token ids are those of the model's own vocabulary."""

    max_tokens: int | None = Field(None, ge=0, lt=2**31)
    """None: 16, as OpenAI has it. 0: only with `echo`, the prompt again."""
    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool | None = None
    best_of: int | None = Field(None, ge=1, le=16)
    suffix: str | None = None


class EmbeddingBody(Open):
    """POST /v1/embeddings."""

    model: ModelId
    input: str | list[str] | list[TokenId] | list[list[TokenId]]
    dimensions: int | None = Field(None, ge=1, le=65536)
    encoding_format: Literal["float", "base64"] = "float"
    user: EndUser | None = None
