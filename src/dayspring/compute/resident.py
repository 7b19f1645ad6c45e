"""One model that is loaded, loading or closing: its worker or inline session, and who uses it."""

import asyncio
from typing import Any

from dayspring.compute.status import WorkerStatus
from dayspring.compute.worker_process import WorkerProcess
from dayspring.contracts.devices import Device
from dayspring.contracts.engine import Engine, Session
from dayspring.contracts.models import Model

__all__ = ["Resident"]


class Resident:
    def __init__(self, model: Model, engine: Engine, device: Device, reserved_bytes: int) -> None:
        self.model = model
        self.engine = engine
        self.device = device
        self.reserved_bytes = reserved_bytes
        """The engine's estimate, and once loaded the measured size."""
        self.users = 0
        """Calls in it or waiting for it; it is not evicted while there are any."""
        self.last_used_ns = 0
        self.pinned = False
        self.retired = False
        """Nobody new gets it; it closes when its users have gone."""
        self.unmetered = False
        """Its idle time is counted no more."""
        self.loading: asyncio.Task[None] | None = None
        self.closing: asyncio.Task[None] | None = None
        self.worker: WorkerProcess | None = None
        self.session: Session | None = None
        """Of an inline engine."""
        self.log_name = ""

    @property
    def ready(self) -> bool:
        return self.worker is not None or self.session is not None

    @property
    def evictable(self) -> bool:
        return self.ready and not self.users and not self.pinned and self.closing is None

    def status(self) -> WorkerStatus:
        facts: dict[str, Any] = {"pid": 0, "load_s": 0.0}
        if self.worker is not None:
            facts = {"pid": self.worker.pid, "load_s": self.worker.load_s}
        return WorkerStatus(
            model=self.model.id,
            engine=self.engine.name,
            device=self.device.id,
            state="closing" if self.closing or self.retired else "ready" if self.ready else "loading",
            running=self.users,
            pinned=self.pinned,
            memory_bytes=self.reserved_bytes,
            log=self.log_name,
            **facts,
        )
