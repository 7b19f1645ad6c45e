"""The answer's shape of /v1/rerank, for the OpenAPI document. A test holds it and the service together."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Ranking"]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RankedText(Shape):
    text: str


class RankedDocument(Shape):
    """`index` is the document's place in the request."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class RankingUsage(Shape):
    prompt_tokens: int
    total_tokens: int


class Ranking(Shape):
    """Documents, the best first."""

    id: str
    object: Literal["list"]
    model: str
    results: list[RankedDocument]
    usage: RankingUsage
