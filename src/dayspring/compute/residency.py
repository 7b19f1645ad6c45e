"""Which models are loaded: one place that loads, finds, evicts, retires and closes them.

What holds: a model is loaded once however many ask at the same time, and a waiter who goes does not stop it for the
others; models in use or pinned are never evicted; what is reserved on a device stays within its budget; after failures
to start, a model is left alone for its back-off. Decisions are made without a pause between looking and reserving, so
they need no lock: everything here runs on the server's event loop.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence

from dayspring.compute.background import Background
from dayspring.compute.backoff import Backoff
from dayspring.compute.devices import NETWORK
from dayspring.compute.meter import DeviceMeter
from dayspring.compute.placement import place
from dayspring.compute.resident import Resident
from dayspring.compute.worker_process import StartFailed, WorkerProcess, log_name
from dayspring.contracts import wire
from dayspring.contracts.clock import Clock
from dayspring.contracts.devices import Device
from dayspring.contracts.engine import Engine, LoadOptions
from dayspring.contracts.models import Model
from dayspring.core.errors import Conflict, NotFound, Unavailable
from dayspring.core.settings import Settings

__all__ = ["Residency"]

_DOCTOR = "See 'dayspring doctor' and the worker's log."


class Residency:
    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        engine_of: Callable[[str], Engine],
        devices: Sequence[Device],
        budget_bytes: Mapping[str, int],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._engine_of = engine_of
        self._devices = devices
        self._budget_bytes = dict(budget_bytes)
        self._background = Background()
        self._current: dict[str, Resident] = {}
        self._all: set[Resident] = set()
        self._pins: set[str] = set()
        self.backoffs: dict[str, Backoff] = {}
        self.meters = {device.id: DeviceMeter(clock) for device in devices}
        self._sweeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def all(self) -> list[Resident]:
        """Every model that holds memory, the closing ones too."""
        return list(self._all)

    async def acquire(self, model: Model) -> Resident:
        """The model, loaded, with one more user: give it back with `release`.

        Raises Unavailable (with `retry_after_s`) while it cannot be started, OutOfMemory when it cannot fit.
        """
        resident = self._current.get(model.id)
        if resident is not None and resident.model is not model and resident.model != model:
            self._retire(resident)
            resident = None
        if resident is None:
            resident = self._place(model)
        resident.users += 1
        if resident.loading is not None:
            try:
                await asyncio.shield(resident.loading)
            except BaseException:
                self.release(resident)
                raise
        return resident

    def release(self, resident: Resident) -> None:
        resident.users -= 1
        resident.last_used_ns = self._clock.monotonic_ns()
        if resident.retired and not resident.users and resident in self._all:
            self._close(resident)

    def pin(self, model: str, *, pinned: bool) -> None:
        """Keeps a model loaded once it is, against eviction and idleness; or no longer."""
        (self._pins.add if pinned else self._pins.discard)(model)
        if (resident := self._current.get(model)) is not None:
            resident.pinned = pinned

    async def unload(self, model: str) -> None:
        """Lets go of a loaded model, pinned or not. Raises NotFound when it is not loaded, Conflict while in use."""
        resident = self._current.get(model)
        if resident is None:
            raise NotFound("loaded model", model, "See 'dayspring models list'.")
        if resident.users or resident.loading is not None:
            raise Conflict(f"Model {model!r} is in use", "Unload it when its requests have ended.")
        await asyncio.shield(self._close(resident))

    async def unload_idle(self) -> None:
        """Unloads what nobody used for `idle_unload_s`; one look, which the timer takes again and again."""
        before_ns = self._clock.monotonic_ns() - int(self._settings.idle_unload_s * 1e9)
        gone = [self._close(r) for r in list(self._all) if r.evictable and r.last_used_ns <= before_ns]
        await asyncio.gather(*gone, return_exceptions=True)

    async def close(self) -> None:
        """Ends every worker. Calls that still run fail."""
        self._stopping = True
        loading = [r.loading for r in self._all if r.loading is not None]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        await asyncio.gather(*(self._close(r) for r in list(self._all)), return_exceptions=True)
        await self._background.close()

    def _place(self, model: Model) -> Resident:
        if self._stopping:
            raise Unavailable("The server is stopping", "Send the request again when it has started.", retry_after_s=5)
        backoff = self.backoffs.get(model.id)
        if backoff is not None and (wait_s := backoff.left_s()) > 0:
            raise _not_started(model, backoff.reason, wait_s)
        engine = self._engine_of(model.engine)
        engine.check_options(model.options)
        if engine.placement == "inline":
            resident = Resident(model, engine, NETWORK, 0)
        else:
            usable = [device for device in self._devices if device.kind in engine.runs_on(model)]
            needed = {device.id: engine.memory_bytes(model, self._options(device)) for device in usable}
            placement = place(model.id, needed, usable, self._budget_bytes, self._all)
            for victim in list(self._all):
                if victim in placement.evict:
                    self._close(victim)
            resident = Resident(model, engine, placement.device, needed[placement.device.id])
        resident.pinned = model.id in self._pins
        resident.last_used_ns = self._clock.monotonic_ns()
        self._all.add(resident)
        self._current[model.id] = resident
        resident.loading = self._background.start(self._load(resident), f"load {model.id}", quiet=True)
        self._start_sweeping()
        return resident

    async def _load(self, resident: Resident) -> None:
        model = resident.model
        try:
            if resident.engine.placement == "inline":
                await self._open_inline(resident)
            else:
                closing = [r.closing for r in self._all if r.closing is not None and r.device.id == resident.device.id]
                await asyncio.gather(*closing, return_exceptions=True)
                await self._start_worker(resident)
        except StartFailed as failed:
            self._forget(resident)
            backoff = self.backoffs.setdefault(model.id, Backoff(self._clock))
            raise _not_started(model, str(failed), backoff.failed(str(failed))) from None
        except BaseException:
            self._forget(resident)
            raise
        finally:
            resident.loading = None
        self.backoffs.pop(model.id, None)
        resident.last_used_ns = self._clock.monotonic_ns()

    async def _open_inline(self, resident: Resident) -> None:
        opened = resident.engine.session
        if isinstance(opened, str):
            raise StartFailed(f"its engine {resident.engine.name!r} is inline and names no function")
        secrets = {host: key.get_secret_value() for host, key in self._settings.upstream_keys.items()}
        options = LoadOptions(request_timeout_s=self._settings.request_timeout_s, secrets=secrets)
        resident.session = await opened(resident.model, NETWORK, options)

    async def _start_worker(self, resident: Resident) -> None:
        model, device = resident.model, resident.device
        if not isinstance(resident.engine.session, str):
            raise StartFailed(f"its engine {resident.engine.name!r} names no module for a worker")
        taken = {r.log_name for r in self._all}
        resident.log_name = next(name for n in itertools.count(1) if (name := log_name(model.id, n)) not in taken)
        path = self._settings.home / "logs" / resident.log_name
        worker = WorkerProcess(model.id, self.meters[device.id], self._background, path)
        worker.on_death = lambda: self._forget(resident)
        order = wire.Load(resident.engine.session, model, device, self._options(device))
        await worker.start(order, self._settings.worker_start_timeout_s)
        resident.worker = worker
        if device.kind == "cpu":  # an accelerator's memory is not seen in the size of the process
            resident.reserved_bytes = worker.memory_bytes
        self.meters[device.id].loaded(model.id)
        self._trim(device)

    def _options(self, device: Device) -> LoadOptions:
        return LoadOptions(
            threads=self._settings.threads or device.threads,
            slots=self._settings.slots,
            kv_contexts=self._settings.kv_contexts,
            memory_bytes=self._budget_bytes[device.id],
            request_timeout_s=self._settings.request_timeout_s,
            executables=self._settings.executables,
        )

    def _trim(self, device: Device) -> None:
        """Evicts idle models while the measured sizes are over the budget."""
        here = [r for r in self._all if r.device.id == device.id]
        over = sum(r.reserved_bytes for r in here) - self._budget_bytes[device.id]
        for resident in sorted((r for r in here if r.evictable), key=lambda r: r.last_used_ns):
            if over <= 0:
                return
            over -= resident.reserved_bytes
            self._close(resident)

    def _retire(self, resident: Resident) -> None:
        """The model's facts have changed: whoever comes next gets a fresh one."""
        resident.retired = True
        self._current.pop(resident.model.id, None)
        if not resident.users and resident.loading is None:
            self._close(resident)

    def _close(self, resident: Resident) -> asyncio.Task[None]:
        """Starts to let go of a model; its memory counts as free, and who loads next waits for it to be."""
        if resident.closing is None:
            if self._current.get(resident.model.id) is resident:
                del self._current[resident.model.id]
            resident.reserved_bytes = 0
            self._unmeter(resident)
            resident.closing = self._background.start(self._finish(resident), f"close {resident.model.id}")
        return resident.closing

    async def _finish(self, resident: Resident) -> None:
        try:
            if resident.worker is not None:
                await resident.worker.close()
            if resident.session is not None:
                await resident.session.close()
        finally:
            self._forget(resident)

    def _forget(self, resident: Resident) -> None:
        """It holds nothing any more: its worker ended, or it never started."""
        self._all.discard(resident)
        if self._current.get(resident.model.id) is resident:
            del self._current[resident.model.id]
        self._unmeter(resident)

    def _unmeter(self, resident: Resident) -> None:
        if resident.worker is not None and not resident.unmetered:
            resident.unmetered = True
            self.meters[resident.device.id].unloaded(resident.model.id)

    def _start_sweeping(self) -> None:
        if self._sweeper is None and self._settings.idle_unload_s > 0:
            self._sweeper = self._background.start(self._sweep(), "unload idle models")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(30.0, max(0.1, self._settings.idle_unload_s / 4)))
            await self.unload_idle()


def _not_started(model: Model, reason: str, wait_s: float) -> Unavailable:
    return Unavailable(f"Model {model.id!r} could not be started: {reason}", _DOCTOR, retry_after_s=round(wait_s, 1))
