"""The HTTP shapes of batches: OpenAI's."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dayspring.batches.service import NewBatch
from dayspring.batches.values import Batch

__all__ = ["BatchBody", "BatchList", "BatchObject", "batch_object"]

_Key = Annotated[str, StringConstraints(max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]


class _Expiry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: int


class BatchBody(BaseModel):
    """POST /v1/batches."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(min_length=1, max_length=64)
    endpoint: str = Field(max_length=64)
    completion_window: str = Field(max_length=16)
    metadata: dict[_Key, _Value] | None = Field(None, max_length=16)
    output_expires_after: _Expiry | None = None

    @property
    def new(self) -> NewBatch:
        expiry = self.output_expires_after
        return NewBatch(
            input_file_id=self.input_file_id, endpoint=self.endpoint, completion_window=self.completion_window,
            metadata=self.metadata, output_expires_s=None if expiry is None else expiry.seconds,
        )  # fmt: skip


class BatchErrorObject(BaseModel):
    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchErrorObject]


class BatchCounts(BaseModel):
    total: int
    completed: int
    failed: int


class BatchInputDetails(BaseModel):
    cached_tokens: int


class BatchOutputDetails(BaseModel):
    reasoning_tokens: int


class BatchUsage(BaseModel):
    input_tokens: int
    input_tokens_details: BatchInputDetails
    output_tokens: int
    output_tokens_details: BatchOutputDetails
    total_tokens: int


class BatchObject(BaseModel):
    """One batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    usage: BatchUsage
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """A page of batches, newest first."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_object(batch: Batch) -> BatchObject:
    """The wire form."""
    tally = batch.tally
    faults = [
        {"code": each.code, "message": each.message, "param": each.param, "line": each.line} for each in batch.faults
    ]
    fields: dict[str, Any] = {
        "errors": {"data": faults} if faults else None,
        "request_counts": {"total": batch.total, "completed": tally.completed, "failed": tally.failed},
        "usage": {
            "input_tokens": tally.input_tokens,
            "input_tokens_details": {"cached_tokens": tally.cached_tokens},
            "output_tokens": tally.output_tokens,
            "output_tokens_details": {"reasoning_tokens": tally.reasoning_tokens},
            "total_tokens": tally.input_tokens + tally.output_tokens,
        },
    }
    for name in ("id", "endpoint", "model", "input_file_id", "completion_window", "status", "output_file_id",
                 "error_file_id", "metadata"):  # fmt: skip
        fields[name] = getattr(batch, name)
    for name in ("created", "in_progress", "expires", "finalizing", "cancelling"):
        fields[f"{name}_at"] = _seconds(getattr(batch, f"{name}_at_ns"))
    for name in ("completed", "failed", "expired", "cancelled"):
        fields[f"{name}_at"] = _seconds(batch.ended_at_ns) if batch.status == name else None
    return BatchObject.model_validate(fields)


def _seconds(at_ns: int | None) -> int | None:
    return None if at_ns is None else at_ns // 10**9
