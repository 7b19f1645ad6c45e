"""What this machine can compute with: a list of probes, one for each kind of device.

Another maker's accelerator is one more class with a `find` in `PROBES`, and an engine that names its kind.
A probe that fails, or takes over five seconds, found nothing: a machine without a driver is a machine without it.
"""

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dayspring.contracts.devices import Device

__all__ = ["NETWORK", "PROBES", "CpuProbe", "CudaProbe", "DeviceProbe", "find_devices"]

NETWORK = Device("network", "network", "services reached over the network")
"""Where inline engines run: it computes nothing here and has no time to account for."""

_QUERY_LIMIT_S = 5


class DeviceProbe(Protocol):
    def find(self) -> list[Device]:
        """The devices of this kind, none when there are none. Must not raise."""


class CpuProbe:
    """The processor: the cores this process may use, and the machine's memory."""

    def find(self) -> list[Device]:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return [Device("cpu", "cpu", _processor_name(), _total_memory_bytes(), _within_quota(threads))]


class CudaProbe:
    """NVIDIA accelerators, as the driver's `nvidia-smi` lists them."""

    def __init__(self, program: str = "nvidia-smi") -> None:
        self._program = program

    def find(self) -> list[Device]:
        program = shutil.which(self._program)
        if program is None:
            return []
        try:
            answer = subprocess.run(  # noqa: S603 - a program of the system, fixed arguments
                [program, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"],
                capture_output=True,
                timeout=_QUERY_LIMIT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return []
        return self.parse(answer.stdout.decode("utf-8", "replace"))

    @staticmethod
    def parse(listing: str) -> list[Device]:
        """Devices from lines of `index, name, MiB`; a line that is anything else is left out."""
        devices = []
        for line in listing.splitlines():
            index, _, rest = line.partition(",")
            name, _, mebibytes = rest.rpartition(",")
            with contextlib.suppress(ValueError):
                found = Device(f"cuda:{int(index)}", "cuda", name.strip(), int(float(mebibytes)) << 20)
                devices.append(found)
        return devices


PROBES: tuple[DeviceProbe, ...] = (CudaProbe(), CpuProbe())
"""Accelerators first: an engine that can use one is placed there while there is room."""


def find_devices(probes: Sequence[DeviceProbe] = PROBES) -> list[Device]:
    """All devices, in order of preference."""
    return [device for probe in probes for device in probe.find()]


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _total_memory_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _within_quota(threads: int) -> int:
    """No more threads than the control group's processor quota (version 2: `max` or `quota period`)."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            return max(1, min(threads, int(quota) // int(period)))
    return threads
