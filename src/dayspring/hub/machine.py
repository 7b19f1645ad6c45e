"""What this machine has room for."""

import os
import shutil
from pathlib import Path

from dayspring.core.settings import Settings

__all__ = ["disk_free_bytes", "memory_limit_bytes", "processor_cores"]


def disk_free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, or of the nearest folder above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def memory_limit_bytes(settings: Settings) -> int:
    """Memory all loaded models may use together: the setting, else 80 % of what the machine or its container has."""
    if settings.memory_bytes:
        return settings.memory_bytes
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
    except OSError:
        limit = ""
    return (min(total, int(limit)) if limit.isdigit() else total) * 8 // 10


def processor_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
