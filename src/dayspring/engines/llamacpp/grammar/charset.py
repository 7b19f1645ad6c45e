"""Sets of Unicode code points as sorted, disjoint, non-adjacent inclusive ranges.

What holds: surrogates are in no set built here, so no text that a set accepts has half a pair.
"""

from collections.abc import Iterable
from typing import Final

__all__ = ["ALL", "CharSet", "complement", "contains", "intersect", "minus", "of", "single", "union"]

CharSet = tuple[tuple[int, int], ...]

ALL: Final[CharSet] = ((0, 0xD7FF), (0xE000, 0x10FFFF))


def union(*sets: Iterable[tuple[int, int]]) -> CharSet:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(one for ranges in sets for one in ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def intersect(left: CharSet, right: CharSet) -> CharSet:
    found = []
    i = j = 0
    while i < len(left) and j < len(right):
        low, high = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if low <= high:
            found.append((low, high))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def complement(chars: CharSet) -> CharSet:
    """All code points but these."""
    gaps = []
    start = 0
    for low, high in chars:
        if start < low:
            gaps.append((start, low - 1))
        start = high + 1
    gaps.append((start, 0x10FFFF))
    return intersect(tuple(gap for gap in gaps if gap[0] <= gap[1]), ALL)


def minus(left: CharSet, right: CharSet) -> CharSet:
    return intersect(left, complement(right))


def single(char: str) -> CharSet:
    return ((ord(char), ord(char)),)


def of(chars: str) -> CharSet:
    """The set of the characters of a string."""
    return union(*(single(char) for char in chars))


def contains(chars: CharSet, point: int) -> bool:
    return any(low <= point <= high for low, high in chars)
