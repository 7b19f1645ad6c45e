"""A device is something that computes: the processor, or one accelerator."""

import msgspec

__all__ = ["Device"]


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    """`cpu`, `cuda:0`, ..."""
    kind: str
    """`cpu`, `cuda`, ...: what an engine looks for."""
    name: str = ""
    memory_bytes: int = 0
    threads: int = 0
    """Threads to compute with, for a processor."""
