"""Long lists in parts: a statement takes only so many values (SQLite 32,766, PostgreSQL 65,535)."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["in_parts"]

T = TypeVar("T")
_AT_ONCE = 500


def in_parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in order, as many at a time as one statement may name."""
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]
