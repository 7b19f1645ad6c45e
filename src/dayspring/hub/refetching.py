"""Files of models that a restore brought without them, fetched again from where they came.

Each is added once more under a name for the time being, which puts its files into the store; where these are the files
that the model was made of, it is put in place, and the other name goes. What comes out otherwise is not believed.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from dayspring.contracts.models import Model
from dayspring.core.errors import DayspringError, Refused
from dayspring.core.ids import new_id
from dayspring.hub.plan import Plan, ProgressCallback
from dayspring.hub.shelf import Shelf

__all__ = ["refetch"]


class Hub(Protocol):
    async def plan(
        self,
        source: str,
        id: str | None = None,  # noqa: A002 - as the hub names it
        *,
        licence: str = "",
        options: dict[str, object] | None = None,
        base: str = "",
    ) -> Plan: ...

    async def add(
        self, plan: Plan, accept_licence: str | None = None, progress: ProgressCallback | None = None
    ) -> Model: ...

    async def remove(self, model_id: str) -> None: ...


async def refetch(hub: Hub, shelf: Shelf, models: Sequence[Model], progress: ProgressCallback | None) -> list[str]:
    """The ids of those that are here now. Raises the first error after all were tried."""
    first: DayspringError | None = None
    for model in models:
        try:
            await _refetch(hub, shelf, model, progress)
        except DayspringError as error:
            first = first or error
    missing = await asyncio.to_thread(shelf.relink)
    if first is not None:
        raise first
    return [model.id for model in models if model.id not in missing]


async def _refetch(hub: Hub, shelf: Shelf, model: Model, progress: ProgressCallback | None) -> None:
    """Raises Refused where the source gives something else now."""
    waiting = new_id("restored")
    plan = await hub.plan(model.source, waiting, licence=model.licence, options=dict(model.options), base=model.base)
    await hub.add(plan, "the installation that was restored", progress)
    try:
        made = {file.sha256 for file in await shelf.files(waiting)}
        if made != {file.sha256 for file in await shelf.files(model.id)}:
            raise Refused(
                file=model.id,
                rule="its source gives other files than it was made of",
                remedy="Remove the model and add it again, if the new files are right.",
            )
        await asyncio.to_thread(shelf.relink)
    finally:
        await hub.remove(waiting)
