"""What a room hands to dispatch, and what it gets back."""

from typing import Any

import msgspec

from dayspring.accounts.principals import Principal
from dayspring.contracts.events import Usage
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import Task

__all__ = ["Order", "Receipt"]


class Order(msgspec.Struct, frozen=True):
    """One metered request, authorised."""

    request_id: str
    principal: Principal
    model: Model
    task: Task
    metadata: dict[str, Any] = {}
    """The caller's own notes, kept with the request's account."""


class Receipt(msgspec.Struct, frozen=True):
    """What a request came to. All amounts are nano-units of the installation's currency."""

    request_id: str
    model_id: str
    status: str
    """`completed`, `cancelled` or `failed`."""
    usage: Usage
    device: str
    busy_ns: int
    """The request's fair share of measured device time."""
    price_nanos: int
    compute_cost_nanos: int
    upstream_cost_nanos: int
    excess_nanos: int
    """What an upstream took beyond the reservation: the operator's loss, not the customer's."""
    first_token_s: float | None
    """Seconds from the order to the first output; None when there was none."""

    @property
    def cost_nanos(self) -> int:
        return self.compute_cost_nanos + self.upstream_cost_nanos

    @property
    def margin_nanos(self) -> int:
        return self.price_nanos - self.cost_nanos
