"""How tasks, events and errors cross a process border: msgpack, one frame each, 4-byte little-endian length first.

Server to worker: Load, Run, Cancel, Pace, Count, Close. Worker to server: Ready, Began, Emit, Done, Failed, Counted.
A frame over MAX_FRAME_BYTES ends the connection: a length is never trusted further than that.
"""

import asyncio
import struct
from typing import Final

import msgspec

from dayspring.contracts.devices import Device
from dayspring.contracts.engine import LoadOptions
from dayspring.contracts.events import Event
from dayspring.contracts.models import Model
from dayspring.contracts.tasks import Task
from dayspring.core.errors import DayspringError, Malformed, rebuild

__all__ = [
    "Began", "Cancel", "Close", "Count", "Counted", "Done", "Emit", "Failed", "FromWorker", "Load", "Pace", "Ready",
    "Run", "ToWorker", "decode_from_worker", "decode_to_worker", "encode", "failure", "read_frame", "revive",
]  # fmt: skip

MAX_FRAME_BYTES: Final = 256 << 20


class Load(msgspec.Struct, frozen=True, tag="load"):
    """The first frame a worker reads: what to become."""

    session: str
    """`module:function` of the engine's heavy half."""
    model: Model
    device: Device
    options: LoadOptions


class Run(msgspec.Struct, frozen=True, tag="run"):
    call: int
    task: Task


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    call: int


class Pace(msgspec.Struct, frozen=True, tag="pace"):
    """Hold back the events of a call whose reader is slow, or send on."""

    call: int
    go: bool


class Count(msgspec.Struct, frozen=True, tag="count"):
    call: int
    task: Task


class Close(msgspec.Struct, frozen=True, tag="close"):
    pass


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded and has answered a first inference."""

    parallel: int
    memory_bytes: int
    """Resident memory of the process after loading."""
    load_s: float


class Began(msgspec.Struct, frozen=True, tag="began"):
    call: int


class Emit(msgspec.Struct, frozen=True, tag="emit"):
    call: int
    event: Event


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The run ended, in full or cancelled."""

    call: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    call: int
    """-1: the worker as a whole, before it was ready."""
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None


class Counted(msgspec.Struct, frozen=True, tag="counted"):
    call: int
    tokens: int


ToWorker = Load | Run | Cancel | Pace | Count | Close
FromWorker = Ready | Began | Emit | Done | Failed | Counted

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def encode(message: ToWorker | FromWorker) -> bytes:
    """One frame, its length first."""
    body = _encoder.encode(message)
    return struct.pack("<I", len(body)) + body


def decode_to_worker(body: bytes) -> ToWorker:
    return _to_worker.decode(body)


def decode_from_worker(body: bytes) -> FromWorker:
    return _from_worker.decode(body)


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next frame's body, or None at the end of the stream. Raises Malformed for a length over the limit."""
    try:
        (length,) = struct.unpack("<I", await reader.readexactly(4))
        if length > MAX_FRAME_BYTES:
            raise Malformed(f"a frame of {length} bytes between processes")
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def failure(call: int, error: DayspringError) -> Failed:
    """The frame that carries an error of the tree."""
    return Failed(call, error.code, error.message, error.param, error.retry_after_s)


def revive(frame: Failed) -> DayspringError:
    """The error the frame carries, as its own class."""
    return rebuild(frame.code, frame.message, frame.param, frame.retry_after_s)
