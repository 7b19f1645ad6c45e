"""The answers' shapes of /v1/responses, for the OpenAPI document. A test holds them and the builder together."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dayspring.chat.wire import RequestAccount, TokenScore

__all__ = ["InputItemList", "InputTokens", "ResponseDeleted", "ResponseEvent", "ResponseObject"]

Status = Literal["completed", "failed", "in_progress", "cancelled", "queued", "incomplete"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OutputPart(Shape):
    """`output_text` has text, annotations and logprobs; `reasoning_text` text; `refusal` the refusal."""

    type: Literal["output_text", "refusal", "reasoning_text"]
    text: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    logprobs: list[TokenScore] | None = None


class OutputItem(Shape):
    """A message, a thought (`reasoning`) or a call (`function_call`)."""

    id: str
    type: Literal["message", "reasoning", "function_call"]
    status: ItemStatus
    role: Literal["assistant"] | None = None
    content: list[OutputPart] | None = None
    summary: list[Any] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class ResponseFault(Shape):
    code: str
    message: str


class Incomplete(Shape):
    reason: Literal["max_output_tokens", "content_filter"]


class ResponseReasoning(Shape):
    effort: str | None
    summary: str | None


class InputDetails(Shape):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Shape):
    reasoning_tokens: int


class ResponseUsage(Shape):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseObject(Shape):
    """A response. What was asked is repeated as it was asked; null means the model's own default."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    background: bool
    error: ResponseFault | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ResponseReasoning
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]


class ResponseEvent(BaseModel):
    """One event of a stream; which fields it has is told by its type, as OpenAI has them."""

    model_config = ConfigDict(extra="allow")

    type: str
    sequence_number: int
    response: ResponseObject | None = None
    item: OutputItem | None = None
    part: OutputPart | None = None
    dayspring: RequestAccount | None = None


class ResponseDeleted(Shape):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItemList(Shape):
    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputTokens(Shape):
    object: Literal["response.input_tokens"]
    input_tokens: int
