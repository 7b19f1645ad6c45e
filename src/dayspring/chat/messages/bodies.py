"""The HTTP bodies of /v1/messages: Anthropic's fields, with their limits.

As everywhere in this room, every field of Anthropic's is declared; one that nothing here can honour is refused by name
in `reading`, and so is one that Anthropic does not have.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dayspring.chat.bodies import EndUser, ModelId, Name, Stop

__all__ = ["InputBlock", "MessageBody", "MessageCountBody", "MessageTool", "MessageToolChoice", "MessageTurn"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class InputBlock(Open):
    """A piece of a turn. What a kind needs is checked in `reading`."""

    type: str
    text: str | None = None
    id: Annotated[str, StringConstraints(max_length=256)] | None = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    input: dict[str, Any] | None = None
    tool_use_id: Annotated[str, StringConstraints(max_length=256)] | None = None
    content: "str | list[InputBlock] | None" = None
    is_error: bool | None = None
    source: dict[str, Any] | None = None


class MessageTurn(Strict):
    role: Literal["user", "assistant", "system"]
    content: str | list[InputBlock]


class MessageTool(Open):
    """A tool of the caller's; Anthropic's own, which run on its servers, are refused by their type."""

    name: Name
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class MessageToolChoice(Strict):
    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingOptions(Open):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]


class MessageOutputFormat(Strict):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class MessageOutputConfig(Strict):
    effort: str | None = None
    format: MessageOutputFormat | None = None


class MessageMetadata(Open):
    user_id: EndUser | None = None


class MessageCountBody(Open):
    """POST /v1/messages/count_tokens."""

    model: ModelId
    messages: list[MessageTurn] = Field(min_length=1, max_length=10_000)
    system: str | list[InputBlock] | None = None
    tools: list[MessageTool] | None = Field(None, max_length=128)
    tool_choice: MessageToolChoice | None = None
    thinking: ThinkingOptions | None = None
    output_config: MessageOutputConfig | None = None
    cache_control: dict[str, Any] | None = None


class MessageBody(MessageCountBody):
    """POST /v1/messages."""

    max_tokens: int = Field(ge=1, lt=2**31)
    metadata: MessageMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    stop_sequences: list[Stop] | None = Field(None, max_length=16)
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    top_p: float | None = Field(None, gt=0, le=1)
