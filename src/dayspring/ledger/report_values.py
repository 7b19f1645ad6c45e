"""What reports are asked and what they answer, in OpenAI's shapes and units (platform.openai.com, Usage API).

Times are Unix seconds; a bucket holds what finished in start_time <= t < end_time. A field one did not group by is
None. Amounts come twice: `value`, for reading, and our exact `amount_nanos`.
"""

from typing import Any, Generic, Literal, TypeVar

import msgspec

from dayspring.core.money import NANOS

__all__ = [
    "Amount",
    "Bucket",
    "BucketPage",
    "BucketWidth",
    "CompletionsResult",
    "CostsResult",
    "EmbeddingsResult",
    "GroupBy",
    "MarginsResult",
    "ReportQuery",
    "RequestPage",
    "RequestQuery",
    "RequestRow",
    "amount",
]

R = TypeVar("R")

BucketWidth = Literal["1m", "1h", "1d"]
GroupBy = Literal["project_id", "api_key_id", "model", "device", "line_item", "user_id", "batch", "service_tier"]
"""`device` is for margins; `line_item` is the model for costs. The last three are OpenAI's and always None here."""


class ReportQuery(msgspec.Struct, frozen=True, kw_only=True):
    start_time: int
    end_time: int | None = None
    """None: now."""
    bucket_width: BucketWidth = "1d"
    group_by: tuple[GroupBy, ...] = ()
    project_ids: tuple[str, ...] = ()
    api_key_ids: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    limit: int | None = None
    """Buckets on a page. None: 7 days, 24 hours or 60 minutes."""
    page: str | None = None
    """`next_page` of the page before."""


class CompletionsResult(msgspec.Struct, frozen=True):
    object: str = "organization.usage.completions.result"
    input_tokens: int = 0
    """With the cached ones."""
    output_tokens: int = 0
    input_cached_tokens: int = 0
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    num_model_requests: int = 0
    project_id: str | None = None
    user_id: None = None
    api_key_id: str | None = None
    model: str | None = None
    batch: None = None
    service_tier: None = None


class EmbeddingsResult(msgspec.Struct, frozen=True):
    object: str = "organization.usage.embeddings.result"
    input_tokens: int = 0
    num_model_requests: int = 0
    project_id: str | None = None
    user_id: None = None
    api_key_id: str | None = None
    model: str | None = None


class Amount(msgspec.Struct, frozen=True):
    value: float
    """For reading; `amount_nanos` beside it is exact."""
    currency: str
    """ISO 4217 in lower case, as OpenAI writes it."""


def amount(amount_nanos: int, currency: str) -> Amount:
    return Amount(amount_nanos / NANOS, currency.lower())


class CostsResult(msgspec.Struct, frozen=True):
    """What customers were charged."""

    amount: Amount
    amount_nanos: int
    object: str = "organization.costs.result"
    line_item: str | None = None
    """The model."""
    project_id: str | None = None
    api_key_id: str | None = None
    organization_id: str | None = None


class MarginsResult(msgspec.Struct, frozen=True):
    """margin = price - compute cost - upstream cost - excess - idle cost, where price is by the book.

    What was charged is price - excess: the excess is what an upstream took beyond the reservation.
    """

    line_item: Literal["requests", "idle"]
    price_nanos: int
    charged_nanos: int
    compute_cost_nanos: int
    upstream_cost_nanos: int
    excess_nanos: int
    idle_cost_nanos: int
    margin_nanos: int
    margin: Amount
    busy_ns: int
    num_model_requests: int
    """Also those that failed: they cost too."""
    object: str = "organization.margins.result"
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    device: str | None = None


class Bucket(msgspec.Struct, Generic[R], frozen=True):
    start_time: int
    end_time: int
    results: list[R]
    object: str = "bucket"


class BucketPage(msgspec.Struct, Generic[R], frozen=True):
    data: list[Bucket[R]]
    has_more: bool
    next_page: str | None
    object: str = "page"


class RequestQuery(msgspec.Struct, frozen=True, kw_only=True):
    after: str | None = None
    """The last id of the page before."""
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    project_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    status: str | None = None


class RequestRow(msgspec.Struct, frozen=True):
    """One request. Money is None for who may not see it: the price without `sees_cost`, the rest but for admins."""

    id: str
    project_id: str
    api_key_id: str
    model: str
    task: str
    status: str
    started_at_ns: int
    first_token_ns: int | None
    finished_at_ns: int
    input_tokens: int
    """With the cached ones."""
    input_cached_tokens: int
    output_tokens: int
    other_units: dict[str, int]
    price_version: int
    metadata: dict[str, Any] | None
    charged_nanos: int | None
    engine: str | None
    device: str | None
    upstream: str | None
    busy_ns: int | None
    compute_cost_nanos: int | None
    upstream_cost_nanos: int | None
    excess_nanos: int | None
    margin_nanos: int | None
    """charged - compute cost - upstream cost; the excess was never charged."""
    object: str = "request"


class RequestPage(msgspec.Struct, frozen=True):
    data: list[RequestRow]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: str = "list"
