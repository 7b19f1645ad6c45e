"""`truncation: auto`: the oldest turns are left out until the conversation fits the model.

What holds: instructions stay, a cut is made only before something the user said, so no call is parted from its answer,
and the newest turn always stays. A conversation that does not fit even then is refused by the engine, with numbers.
"""

from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["fitted"]

Item = dict[str, Any]

_KEPT = ("system", "developer")


async def fitted(items: list[Item], room: int, count: Callable[[list[Item]], Awaitable[int]]) -> list[Item]:
    """The longest end of the conversation that counts at most `room` tokens, its instructions before it."""
    cuts = [0, *(place for place, item in enumerate(items) if place and item.get("role") == "user")]
    if await count(items) <= room:
        return items
    low, high = 1, len(cuts) - 1  # the smallest cut that fits is in this range, or none does
    while low < high:
        middle = (low + high) // 2
        if await count(_cut(items, cuts[middle])) <= room:
            high = middle
        else:
            low = middle + 1
    return _cut(items, cuts[high]) if high else items


def _cut(items: list[Item], place: int) -> list[Item]:
    return [item for item in items[:place] if item.get("role") in _KEPT] + items[place:]
