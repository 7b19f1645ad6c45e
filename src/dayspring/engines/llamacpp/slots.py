"""Which of the library's slots a request gets, and whether it may go on from what the slot still holds.

A slot keeps the key-value memory of the last prompt it read. What holds: that memory is reused only by a task of the
same scope (a project) and the same adapter, because the time a prompt takes, and the cached tokens in its account, tell
what was read before; of the free slots of that scope the one whose prompt begins most alike is taken. Without one alike
enough, an empty slot is taken, or the one used longest ago, and it starts afresh.
"""

from dataclasses import dataclass

import msgspec

__all__ = ["Place", "Slots", "Wish"]

_ALIKE_CHARACTERS = 64
"""What must be there already for a slot to be worth going on from: so much of a prompt, or half of it."""
_KEPT_CHARACTERS = 64 << 10
"""Of a prompt, for comparing: two that are alike so far are taken for alike."""


class Wish(msgspec.Struct, frozen=True):
    """What decides how a prompt is read."""

    scope: str = ""
    adapter: str = ""
    text: str = ""
    """What the prompt is made of, spelled so that equal beginnings are equal prompts."""
    fresh: bool = False
    """Take nothing over, whatever is there."""


class Place(msgspec.Struct, frozen=True):
    slot: int
    reuse: bool


@dataclass(slots=True)
class _Slot:
    held: Wish | None = None
    busy: bool = False
    used: int = 0
    """When it was taken last, counted in requests."""


class Slots:
    def __init__(self, count: int) -> None:
        self._slots = [_Slot() for _ in range(count)]
        self._requests = 0

    @property
    def free(self) -> int:
        return sum(not slot.busy for slot in self._slots)

    def take(self, wish: Wish) -> Place:
        """A free slot, held until `give`. There must be one."""
        best, best_alike, oldest = -1, 0, -1
        for number, slot in enumerate(self._slots):
            if slot.busy:
                continue
            if oldest < 0 or _age(slot) < _age(self._slots[oldest]):
                oldest = number
            alike = _alike(wish, slot.held)
            if alike > best_alike:
                best, best_alike = number, alike
        chosen = oldest if best < 0 else best
        self._requests += 1
        slot = self._slots[chosen]
        slot.busy, slot.used = True, self._requests
        slot.held = msgspec.structs.replace(wish, text=wish.text[:_KEPT_CHARACTERS])
        return Place(chosen, best >= 0)

    def give(self, number: int) -> None:
        self._slots[number].busy = False

    def forget_idle(self) -> list[int]:
        """The free slots that held something, and now count as empty: emptying them is the caller's."""
        idle = [number for number, slot in enumerate(self._slots) if not slot.busy and slot.held is not None]
        for number in idle:
            self._slots[number].held = None
        return idle


def _age(slot: _Slot) -> tuple[bool, int]:
    return slot.held is not None, slot.used


def _alike(wish: Wish, held: Wish | None) -> int:
    """Characters of the wished prompt that the slot's begins with; 0 where it may not be used, or is not worth it."""
    if held is None or wish.fresh or (held.scope, held.adapter) != (wish.scope, wish.adapter):
        return 0
    text = wish.text[:_KEPT_CHARACTERS]
    common = _common(text, held.text)
    return common if common >= min(_ALIKE_CHARACTERS, (len(text) + 1) // 2) else 0


def _common(one: str, other: str) -> int:
    """Characters both begin with. Halving compares whole runs at once, which is quicker than one by one."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
