"""Pages of items, in the shape of OpenAI's lists."""

from typing import Any, Literal

import msgspec

from dayspring.core.errors import NotFound

__all__ = ["ItemPage", "item_page"]


class ItemPage(msgspec.Struct, frozen=True):
    """Which part of a list."""

    after: str = ""
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"


def item_page(items: list[dict[str, Any]], page: ItemPage) -> dict[str, Any]:
    """The part of a list that is in memory. Raises NotFound for an `after` that is not in it."""
    ordered = items if page.order == "asc" else items[::-1]
    start = 0
    if page.after:
        places = [place for place, item in enumerate(ordered) if item["id"] == page.after]
        if not places:
            raise NotFound("item", page.after[:100], "Take one of the page before.", param="after")
        start = places[0] + 1
    data = ordered[start : start + page.limit]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": start + page.limit < len(ordered),
    }
