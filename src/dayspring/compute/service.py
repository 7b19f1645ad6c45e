"""Run tasks on models: load on demand, share the machine, meter what each call uses.

What holds: leaving `run` stops the work; a call's `busy_ns` is its fair share of its device's time, and the shares of
all calls add up to the device's busy time; whoever waits for a model or a slot uses none of it.
What it does not do: retry, or know who asks or what it costs. That is `dispatch`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any

import msgspec

from dayspring.compute.call import Call
from dayspring.compute.devices import find_devices
from dayspring.compute.placement import budgets
from dayspring.compute.residency import Residency
from dayspring.compute.resident import Resident
from dayspring.compute.status import ComputeStatus, DeviceStatus, Idle, StartFailure
from dayspring.contracts import registry
from dayspring.contracts.clock import Clock, SystemClock
from dayspring.contracts.devices import Device
from dayspring.contracts.engine import Engine
from dayspring.contracts.events import Event
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import Task
from dayspring.core.errors import Unavailable, WorkerDied
from dayspring.core.settings import Settings

__all__ = ["Compute", "Run"]


class Run:
    """One call, as `async with compute.run(model, task) as run: async for event in run: ...`.

    Leaving the block before the last event stops the work, and waits until it has stopped.
    """

    __slots__ = ("_call", "_events", "_model", "_number", "_residency", "_resident", "_task")

    def __init__(self, residency: Residency, model: Model, task: Task) -> None:
        self._residency = residency
        self._model, self._task = _hosted(model, task)
        self._resident: Resident | None = None
        self._call: Call | None = None
        self._number = 0
        self._events: AsyncIterator[Event] | None = None

    @property
    def device(self) -> str:
        """Id of the device that does the work; empty before the block is entered."""
        return self._resident.device.id if self._resident is not None else ""

    @property
    def busy_ns(self) -> int:
        """The call's fair share of the device's time until now; in all, after the block. 0 for an inline engine."""
        return self._call.busy_ns if self._call is not None else 0

    async def __aenter__(self) -> "Run":
        self._resident = resident = await self._residency.acquire(self._model)
        if resident.worker is not None:
            self._number, self._call = resident.worker.run(self._task)
            self._events = self._call
        elif resident.session is not None:
            self._events = resident.session.run(self._task)
        else:  # its worker died between the load and now
            self._residency.release(resident)
            raise WorkerDied(model=self._model.id)
        return self

    def __aiter__(self) -> AsyncIterator[Event]:
        assert self._events is not None, "iterate inside the block"  # noqa: S101 - a caller's mistake, not a state
        return self._events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        resident = self._resident
        assert resident is not None  # noqa: S101 - the block was entered
        try:
            if self._call is None:
                events: Any = self._events  # an async generator, as the contract says
                await events.aclose()
            elif resident.worker is not None and not self._call.over.is_set():
                await resident.worker.stop(self._number, self._call)
        finally:
            self._residency.release(resident)


def _hosted(model: Model, task: Task) -> tuple[Model, Task]:
    """What is loaded for a model and what is asked of it: an adapter's base, and the adapter by its id."""
    if not model.base:
        return model, task
    if model.host is None:
        raise Unavailable(
            f"Model {model.id!r} is an adapter of {model.base!r}, which is not here as it was",
            "Add the base again as it was, or remove the adapter and add it to the base that is here.",
        )
    return model.host, msgspec.structs.replace(task, adapter=model.id)


class Compute:
    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        *,
        engine_of: Callable[[str], Engine] = registry.engine,
        devices: Sequence[Device] | None = None,
    ) -> None:
        """Looks for devices and measures what memory is free; starts nothing."""
        self.devices = tuple(find_devices() if devices is None else devices)
        self._budget_bytes = budgets(self.devices, settings.memory_bytes)
        self._residency = Residency(settings, clock or SystemClock(), engine_of, self.devices, self._budget_bytes)

    def run(self, model: Model, task: Task) -> Run:
        """A call, which starts when its block is entered.

        Entering raises Unavailable or OutOfMemory when the model cannot be loaded; iterating raises WorkerDied when
        the process ends, and what the engine raises.
        """
        return Run(self._residency, model, task)

    async def count_tokens(self, model: Model, task: Task) -> int:
        """Input tokens of the task, exactly as `run` counts them. Loads the model if it is not."""
        model, task = _hosted(model, task)
        resident = await self._residency.acquire(model)
        try:
            counter = resident.worker or resident.session
            if counter is None:
                raise WorkerDied(model=model.id)
            return await counter.count_tokens(task)
        finally:
            self._residency.release(resident)

    async def load(self, model: Model) -> None:
        """Has the model ready, unless it is. Raises as `run` does."""
        self._residency.release(await self._residency.acquire(model.host or model))

    async def unload(self, model: str) -> None:
        """Lets go of a model, by id. Raises NotFound when it is not loaded, Conflict while it is in use."""
        await self._residency.unload(model)

    def pin(self, model: str, *, pinned: bool = True) -> None:
        """Once loaded, the model stays: neither another model nor idleness unloads it. Or, `pinned=False`, no more."""
        self._residency.pin(model, pinned=pinned)

    async def unload_idle(self) -> None:
        """Unloads what nobody used for the `idle_unload_s` setting. A timer does this too, once a model is loaded."""
        await self._residency.unload_idle()

    def take_idle(self) -> list[Idle]:
        """Idle device time since the last call of this function, by device and model; each nanosecond once."""
        return [
            Idle(device, model, ns)
            for device, meter in self._residency.meters.items()
            for model, ns in meter.take_idle()
        ]

    def status(self) -> ComputeStatus:
        """Devices, loaded models and start failures as they are now."""
        residents = self._residency.all
        devices = []
        for device in self.devices:
            busy_ns, loaded_ns = self._residency.meters[device.id].totals_ns()
            reserved = sum(r.reserved_bytes for r in residents if r.device.id == device.id)
            devices.append(DeviceStatus(device, self._budget_bytes[device.id], reserved, busy_ns, loaded_ns))
        failures = [
            StartFailure(model, backoff.reason, backoff.failures, backoff.left_s())
            for model, backoff in self._residency.backoffs.items()
        ]
        return ComputeStatus(tuple(devices), tuple(r.status() for r in residents), tuple(failures))

    async def close(self) -> None:
        """Ends every worker and waits until it is gone. Let streams end first: what still runs fails."""
        await self._residency.close()
