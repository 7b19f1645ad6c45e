"""What goes into the ledger and what comes out: plain values, amounts in nano-units, times in ns since 1970 UTC."""

from typing import Any, Literal

import msgspec

from dayspring.accounts.principals import Principal
from dayspring.core.money import Unit

__all__ = ["Difference", "ReserveRequest", "Settled", "Settlement", "Status"]

Status = Literal["completed", "cancelled", "failed", "lost"]
"""`cancelled`: the client left and pays for what was produced. `failed`: it pays nothing. `lost`: the server died."""


class ReserveRequest(msgspec.Struct, frozen=True):
    request_id: str
    principal: Principal
    """Whose budgets are held: key, project and organization."""
    model: str
    task: str
    """The tag of the task: `chat`, `completion`, `embedding`, ..."""
    amount_nanos: int
    """The most this request can be charged."""
    price_version: int = 0
    """Of the price book, from which that bound comes."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended. Settling the same content twice is one settlement."""

    request_id: str
    status: Status
    started_at_ns: int
    finished_at_ns: int
    first_token_ns: int | None = None
    """When the first output was sent, on the clock of the other two."""
    engine: str = ""
    device: str = ""
    busy_ns: int = 0
    """The fair share of measured device time."""
    quantities: dict[Unit, int] = {}
    """Tokens are disjoint: an input token is either cached or not."""
    price_nanos: int = 0
    """By the price book. What is charged is at most the reservation."""
    compute_cost_nanos: int = 0
    """Device time at the operator's rate."""
    upstream: str = ""
    """The target that answered, where the request left the house."""
    upstream_cost_nanos: int = 0
    """What that target takes."""
    bill_key: str = ""
    """Names work that may be repeated: of all requests with one key, the first that settles is charged."""
    metadata: dict[str, Any] | None = None


class Settled(msgspec.Struct, frozen=True):
    """What was booked."""

    request_id: str
    status: Status
    price_nanos: int
    """Charged to the customer."""
    compute_cost_nanos: int
    upstream_cost_nanos: int
    excess_nanos: int
    """Priced beyond the reservation, because an upstream took more than its bound: not charged, the operator's loss."""

    @property
    def margin_nanos(self) -> int:
        return self.price_nanos - self.compute_cost_nanos - self.upstream_cost_nanos


class Difference(msgspec.Struct, frozen=True):
    """One place where the books do not agree with themselves."""

    what: str
    id: str
    expected: int
    """Recomputed from the postings."""
    found: int
