"""Conversions this release knows, and running one in a process of its own: the arithmetic libraries stay out of here.

The worker gets one JSON object on standard input and answers with one on standard output.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dayspring.core.environment import child_environment
from dayspring.core.errors import Malformed, Unavailable, rebuild

__all__ = ["Conversion", "ConversionOrder", "conversion_of", "convert", "converted_size_bytes"]

_log = logging.getLogger(__name__)
_LIMIT_S = 1800.0
_KINDS = {
    "bert": ("BERT safetensors to GGUF (16-bit floats), checked against the original's arithmetic", "gguf"),
    "lora": ("PEFT LoRA to GGUF (32-bit floats), checked against the original's arithmetic", "gguf"),
}


class ConversionOrder(msgspec.Struct, frozen=True):
    """What the worker is asked."""

    kind: str
    folder: str
    """Holds the original's files."""
    output: str
    """The file to write."""
    base: str = ""
    """For an adapter: the file of the model it changes."""


class Conversion(msgspec.Struct, frozen=True):
    """What the worker answers."""

    code: str = ""
    """Of the error that ended it; empty for success."""
    message: str = ""
    worst_cosine: float = 0
    """Smallest cosine between the original's vectors and the converted model's, over the check's sentences."""
    sentences: int = 0
    """How many were compared; for an adapter, vectors in each layer."""


def conversion_of(kind: str) -> tuple[str, str]:
    """What is said of a conversion, and the format it ends in. Raises Malformed for one that is not known."""
    if kind not in _KINDS:
        raise Malformed(f"there is no conversion {kind!r} in this release")
    return _KINDS[kind]


def converted_size_bytes(facts: Mapping[str, Any]) -> int:
    """About what the result takes: two bytes a weight, and the vocabulary."""
    return int(facts.get("parameters", 0)) * 2 + (8 << 20)


async def convert(order: ConversionOrder, *, limit_s: float = _LIMIT_S) -> Conversion:
    """Runs the worker. Raises the error it ended with, Unavailable if it died or took too long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "dayspring.hub.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # One thread each: the work is small, and waiting threads spin when the machine is busy.
        env=child_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        cwd=Path(order.output).parent,
    )
    try:
        async with asyncio.timeout(limit_s):
            answer, noise = await process.communicate(msgspec.json.encode(order))
    except TimeoutError:
        raise Unavailable(
            f"Converting the model took over {limit_s:g} s", "Try again when the machine is less busy."
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        result = msgspec.json.decode(answer, type=Conversion)
    except msgspec.DecodeError:
        _log.error("The conversion's process said: %s", noise[-2000:].decode("utf-8", "replace"))
        raise Unavailable(
            f"The process that converts the model ended with status {process.returncode}",
            "Check that there is memory left, then try again: what was fetched is kept.",
        ) from None
    if result.code:
        raise rebuild(result.code, result.message)
    return result
