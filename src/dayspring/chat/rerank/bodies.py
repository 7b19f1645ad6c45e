"""The HTTP body of /v1/rerank, in the shape that Cohere and Jina share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dayspring.chat.bodies import EndUser, ModelId

__all__ = ["RerankBody"]

Text = Annotated[str, StringConstraints(min_length=1)]


class TextDocument(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Text


class RerankBody(BaseModel):
    """POST /v1/rerank."""

    model_config = ConfigDict(extra="allow")

    model: ModelId
    query: Text
    documents: list[Text | TextDocument] = Field(min_length=1, max_length=2048)
    top_n: int | None = Field(None, ge=1)
    return_documents: bool | None = None
    user: EndUser | None = None
