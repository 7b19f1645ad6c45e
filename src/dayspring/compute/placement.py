"""Which device a model goes to, and which idle models make room for it.

What holds: what is placed on a device never adds up to more than its budget, by the engine's estimate before a model
is loaded and by its measured size after. Only models that nobody uses or pinned make room, the least recently used
first. What it does not do: start or stop anything; it decides.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dayspring.contracts.devices import Device
from dayspring.core.errors import OutOfMemory, Unavailable

__all__ = ["Occupant", "Placement", "available_memory_bytes", "budgets", "place"]

_SHARE = 0.8
"""Of the memory free at start, as `Settings.memory_bytes` says."""


class Occupant(Protocol):
    """What placement asks of a loaded model."""

    @property
    def device(self) -> Device: ...
    @property
    def reserved_bytes(self) -> int: ...
    @property
    def evictable(self) -> bool: ...
    @property
    def last_used_ns(self) -> int: ...


@dataclass(frozen=True)
class Placement:
    device: Device
    evict: tuple[Occupant, ...]
    """To be unloaded first, least recently used first."""


def place(
    model: str,
    needed_bytes: dict[str, int],
    devices: Iterable[Device],
    budget_bytes: dict[str, int],
    occupants: Iterable[Occupant],
) -> Placement:
    """The first device with room, with nothing evicted if any allows it. `needed_bytes` by device id.

    Raises OutOfMemory when no device can be made to have room, Unavailable when there is no device at all.
    """
    occupants = list(occupants)
    best: Placement | None = None
    most_free = 0
    shortfall: tuple[int, int] | None = None
    for device in devices:
        here = [occupant for occupant in occupants if occupant.device.id == device.id]
        free = budget_bytes[device.id] - sum(occupant.reserved_bytes for occupant in here)
        victims: list[Occupant] = []
        for victim in sorted((o for o in here if o.evictable), key=lambda o: o.last_used_ns):
            if free >= needed_bytes[device.id]:
                break
            victims.append(victim)
            free += victim.reserved_bytes
        if free < needed_bytes[device.id]:
            if shortfall is None or free > most_free:
                most_free, shortfall = free, (needed_bytes[device.id], max(0, free))
            continue
        if not victims:
            return Placement(device, ())
        best = best or Placement(device, tuple(victims))
    if best is not None:
        return best
    if shortfall is not None:
        raise OutOfMemory(model=model, needed_bytes=shortfall[0], free_bytes=shortfall[1])
    raise Unavailable(
        f"This machine has no device that can run {model!r}", "See 'dayspring doctor' for what was found."
    )


def budgets(devices: Iterable[Device], memory_bytes: int) -> dict[str, int]:
    """Bytes that models may use on each device. The setting, or a share of what is free, bounds the processor's."""
    return {
        device.id: (memory_bytes or int(available_memory_bytes() * _SHARE))
        if device.kind == "cpu"
        else int(device.memory_bytes * _SHARE)
        for device in devices
    }


def available_memory_bytes(root: Path = Path("/")) -> int:
    """Memory this process could still take: the machine's, or less where its control group allows less."""
    available = _meminfo_bytes(root / "proc/meminfo")
    group = root / "sys/fs/cgroup"
    for limit, used, counts in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with contextlib.suppress(OSError, ValueError):  # `max`, or no such file: no limit
            left = int((group / limit).read_text(encoding="ascii")) - int((group / used).read_text(encoding="ascii"))
            available = min(available, max(0, left + _file_cache_bytes(group / counts)))
    return available


def _file_cache_bytes(path: Path) -> int:
    """Pages of files, which count as used and are given back when memory is wanted."""
    counts = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
    return sum(int(counts.get(name, 0)) for name in ("inactive_file", "active_file"))


def _meminfo_bytes(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
