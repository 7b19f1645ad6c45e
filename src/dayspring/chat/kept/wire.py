"""The shapes of stored chat completions, for the OpenAPI document, and the one body that they take."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dayspring.chat.bodies import MetadataKey, MetadataValue
from dayspring.chat.wire import ChatCompletion

__all__ = [
    "CompletionDeleted", "CompletionUpdate", "KeptCompletion", "KeptCompletionList", "KeptMessageList",
]  # fmt: skip


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CompletionUpdate(Shape):
    """POST /v1/chat/completions/{completion_id}."""

    metadata: dict[MetadataKey, MetadataValue] = Field(max_length=16)


class KeptCompletion(ChatCompletion):
    """A stored chat completion."""

    metadata: dict[str, str]


class KeptCompletionList(Shape):
    object: Literal["list"]
    data: list[KeptCompletion]
    first_id: str | None
    last_id: str | None
    has_more: bool


class KeptMessageList(Shape):
    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class CompletionDeleted(Shape):
    object: Literal["chat.completion.deleted"]
    id: str
    deleted: Literal[True]
