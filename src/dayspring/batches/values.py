"""What a batch is, and how one of its lines ends: plain values, times in ns since 1970 UTC."""

from typing import Literal

import msgspec

__all__ = ["ENDED", "ENDPOINTS", "Batch", "BatchFault", "BatchStatus", "Chunk", "Outcome", "Tally"]

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")

BatchStatus = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[str] = frozenset({"completed", "failed", "expired", "cancelled"})


class Tally(msgspec.Struct, frozen=True):
    """Lines and tokens, added up."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    """Part of the input tokens."""
    output_tokens: int = 0
    reasoning_tokens: int = 0
    """Part of the output tokens."""
    expired: int = 0
    """Part of the failed lines: not begun before the batch expired."""

    def plus(self, other: "Tally") -> "Tally":
        mine, theirs = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Tally(*(a + b for a, b in zip(mine, theirs, strict=True)))


class Outcome(msgspec.Struct, frozen=True):
    """How one line ended."""

    number: int
    """Of the line in the input file, from 1."""
    tally: Tally
    """Of this line: completed or failed is 1."""
    text: bytes
    """The line of the output or error file, without its end: JSON, no line break in it."""


class Chunk(msgspec.Struct, frozen=True):
    """Lines that one step answers."""

    offset: int
    """Bytes into the input file."""
    first: int
    """Number of the line that begins there."""
    lines: int
    """Empty ones too."""


class BatchFault(msgspec.Struct, frozen=True):
    """One thing that is wrong with a batch or with a line of its input."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    organization_id: str
    project_id: str
    key_id: str
    user_id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    output_expires_s: int | None
    metadata: dict[str, str] | None
    status: BatchStatus
    model: str | None
    """Where every line names the same one."""
    total: int
    tally: Tally
    faults: tuple[BatchFault, ...]
    output_file_id: str | None
    error_file_id: str | None
    created_at_ns: int
    expires_at_ns: int
    in_progress_at_ns: int | None
    finalizing_at_ns: int | None
    cancelling_at_ns: int | None
    ended_at_ns: int | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED
