"""Blocking iterators read from asyncio: each step in a thread, closed when the reader goes away."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import chain
from typing import TypeVar

__all__ = ["batches", "begun", "in_thread"]

T = TypeVar("T")

_BATCH = 512
_BATCH_BYTES = 1 << 20


def begun(chunks: Iterator[T]) -> Iterator[T]:
    """The iterator after its first step, so that what cannot be opened is told now."""
    first = next(chunks, None)
    return chunks if first is None else chain((first,), chunks)


def batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Some at a time: a thread's turn for each line would cost more than the line."""
    some: list[bytes] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line)
        if len(some) >= _BATCH or size >= _BATCH_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


async def in_thread(steps: Iterator[T]) -> AsyncIterator[T]:
    """Each step in a thread."""
    end = object()
    while (step := await asyncio.to_thread(next, steps, end)) is not end:
        yield step  # type: ignore[misc]  # not `end`
