"""The HTTP bodies of /v1/responses: OpenAI's fields, with their limits.

As in `chat.bodies`, every field OpenAI documents is declared; one that nothing here can honour is refused by name in
`reading`, and so is one that OpenAI does not have.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dayspring.chat.bodies import EndUser, MetadataKey, MetadataValue, ModelId, Name

__all__ = [
    "AllowedToolsChoice", "HostedToolChoice", "InputItem", "InputPart", "NamedFunctionChoice", "ResponseBody",
    "ResponseTool", "TokenCountBody",
]  # fmt: skip

ItemId = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class InputPart(Open):
    """A piece of a message: text, a refusal, a picture, a file."""

    type: Literal["input_text", "output_text", "text", "refusal", "reasoning_text", "input_image", "input_file",
                  "input_audio"]  # fmt: skip
    text: str | None = None
    refusal: str | None = None


class InputItem(Open):
    """Something said before, or a reference to it. What a kind needs is checked in `items`."""

    type: str | None = None
    id: ItemId | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[InputPart] | None = None
    call_id: Annotated[str, StringConstraints(max_length=256)] | None = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None


class ResponseTool(Open):
    """A function, described flat; every other kind is refused by its name."""

    type: str
    name: Name | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunctionChoice(Strict):
    type: Literal["function"]
    name: Name


class AllowedToolsChoice(Strict):
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]] = Field(max_length=128)


class HostedToolChoice(Open):
    """A choice of a kind of tool that runs nowhere here."""

    type: str


class ResponseTextFormat(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseTextConfig(Strict):
    format: ResponseTextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(Open):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponseStreamOptions(Open):
    include_obfuscation: bool | None = None


class TokenCountBody(Open):
    """POST /v1/responses/input_tokens."""

    model: ModelId
    input: str | list[InputItem] | None = Field(None, max_length=10_000_000)
    instructions: str | None = None
    previous_response_id: ItemId | None = None
    conversation: Any = None
    parallel_tool_calls: bool | None = None
    personality: str | None = None
    reasoning: ReasoningOptions | None = None
    text: ResponseTextConfig | None = None
    tool_choice: (
        Literal["none", "auto", "required"] | NamedFunctionChoice | AllowedToolsChoice | HostedToolChoice | None
    ) = None
    tools: list[ResponseTool] | None = Field(None, max_length=128)
    truncation: Literal["auto", "disabled"] | None = None


class ResponseBody(TokenCountBody):
    """POST /v1/responses."""

    background: bool | None = None
    include: list[str] | None = Field(None, max_length=16)
    max_output_tokens: int | None = Field(None, ge=1, lt=2**31)
    max_tool_calls: int | None = Field(None, ge=1, lt=2**31)
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=16)
    prompt: dict[str, Any] | None = None
    prompt_cache_key: EndUser | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: EndUser | None = None
    service_tier: str | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    top_p: float | None = Field(None, gt=0, le=1)
    user: EndUser | None = None

    @property
    def keeps(self) -> bool:
        """Whether the response is stored; it is unless the caller says no."""
        return self.store is not False
