"""What a room hands to dispatch, and what it gets back."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from dayspring.accounts.principals import Principal
from dayspring.contracts.events import Usage
from dayspring.contracts.models import Model
from dayspring.contracts.registry import engine
from dayspring.contracts.tasks import Task

__all__ = ["Lane", "Order", "Receipt", "Ticket"]

Lane = Literal["live", "batch"]
"""`batch` work yields to live traffic, has its own price where one is set, and counts towards no rate limit."""


class Ticket(msgspec.Struct, frozen=True):
    """What a door knows of a request before a room has read it."""

    request_id: str
    bill_key: str = ""
    """Names the work where it may be repeated, e.g. `job_.../17`: of all requests with one key, one is charged."""
    lane: Lane = "live"


class Order(msgspec.Struct, frozen=True):
    """One metered request, authorised."""

    ticket: Ticket
    principal: Principal
    model: Model
    task: Task
    metadata: dict[str, Any] = {}
    """The caller's own notes, kept with the request's account."""
    name: str = ""
    """What the caller sent as the model: an alias leads to others besides, which are tried when it is not available."""
    task_for: Callable[[Model], Task] | None = None
    """Reads the request for another model, if that one's engine speaks otherwise. Raises what it cannot honour."""

    @property
    def request_id(self) -> str:
        return self.ticket.request_id

    @property
    def yields(self) -> bool:
        """Whether it shares this machine with others, so that lanes matter."""
        return engine(self.model.engine).placement == "process"


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
