"""Query parameters that choose a part of a list, as OpenAI's lists have them."""

from typing import Annotated, Literal

from fastapi import Query

__all__ = ["Limit", "Order"]

Limit = Annotated[int, Query(ge=1, le=100)]
"""Most entries of one page."""
Order = Literal["asc", "desc"]
"""By time."""
