"""What to try when a model is not available: the other models that the name leads to.

What holds: the next one is tried only for a failure that is the model's own and passes, never for a fault of the
request; only while nothing was sent; and only if it can do the same. An embedding is never made by another model than
the first: the vectors of two models do not compare.
"""

from collections.abc import Callable, Iterable

import msgspec

from dayspring.contracts.models import Modality, Model
from dayspring.contracts.registry import engine
from dayspring.contracts.tasks import ChatTask, EmbeddingTask, Task, without_pictures
from dayspring.core.errors import Busy, DayspringError, TimedOut, Unavailable
from dayspring.dispatch import bounds
from dayspring.ledger import pricing
from dayspring.ledger.prices import PriceVersion

__all__ = ["Way", "able", "passes"]


class Way(msgspec.Struct, frozen=True):
    """One model to try, with the task as it reads it and its price."""

    model: Model
    task: Task
    price: PriceVersion

    def bound_nanos(self, timeout_s: float) -> int:
        """The most it can charge."""
        quantities = bounds.quantities(
            bounds.input_bound(self.task, self.model), bounds.output_bound(self.task, self.model), timeout_s=timeout_s
        )
        return pricing.bound(self.price.rates, quantities)


def passes(failure: DayspringError) -> bool:
    """Whether another model may do what this one could not: it is not there, broke, has no room, or took too long."""
    return isinstance(failure, Unavailable | TimedOut | Busy)


def able(
    first: Model, task: Task, others: Iterable[Model], task_for: Callable[[Model], Task] | None
) -> list[tuple[Model, Task]]:
    """The models that can do the task, each with the task as it reads it.

    `task_for` reads the request for a model whose engine speaks otherwise than the first one's; without it, and where
    it refuses, such a model is passed over.
    """
    if isinstance(task, EmbeddingTask):
        return []
    found = []
    for model in others:
        same = engine(model.engine).speaks_openai == engine(first.engine).speaks_openai
        if str(type(task).__struct_config__.tag) not in model.abilities or not (same or task_for):
            continue
        try:
            read = task if same or task_for is None else task_for(model)
        except DayspringError:
            continue  # a field that this one cannot honour
        if not _has_pictures(read) or model.may_read(Modality.IMAGE):
            found.append((model, read))
    return found


def _has_pictures(task: Task) -> bool:
    return isinstance(task, ChatTask) and without_pictures(task.messages)[1] > 0
