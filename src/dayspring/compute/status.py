"""What compute is doing, as plain values: for /metrics, `dayspring doctor` and the operator's API."""

import msgspec

from dayspring.contracts.devices import Device

__all__ = ["ComputeStatus", "DeviceStatus", "Idle", "StartFailure", "WorkerStatus"]


class WorkerStatus(msgspec.Struct, frozen=True):
    """One loaded or loading model."""

    model: str
    engine: str
    device: str
    state: str
    """`loading`, `ready` or `closing`."""
    running: int
    """Calls that use it now, those that wait for it too."""
    pinned: bool
    memory_bytes: int
    """Reserved for it: the engine's estimate, after loading the measured size; 0 for an inline engine."""
    pid: int
    """0 for an inline engine, and before the process is started."""
    load_s: float
    log: str
    """Name of its file in the data folder's `logs`; empty for an inline engine."""


class StartFailure(msgspec.Struct, frozen=True):
    """A model whose worker did not start the last time."""

    model: str
    reason: str
    failures: int
    """In a row."""
    retry_after_s: float


class DeviceStatus(msgspec.Struct, frozen=True):
    device: Device
    budget_bytes: int
    reserved_bytes: int
    busy_ns: int
    """Time with at least one call computing, since the start."""
    loaded_ns: int
    """Time with at least one model loaded, since the start."""


class ComputeStatus(msgspec.Struct, frozen=True):
    devices: tuple[DeviceStatus, ...]
    workers: tuple[WorkerStatus, ...]
    failures: tuple[StartFailure, ...]


class Idle(msgspec.Struct, frozen=True):
    """Time a device was kept ready for a model and did nothing."""

    device: str
    model: str
    ns: int
