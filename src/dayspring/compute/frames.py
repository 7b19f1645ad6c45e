"""Frames over a stream socket, read without a coroutine for each: the hot path between server and worker.

What holds: frames arrive whole and in order; a length over the limit ends the connection.
What it does not do: know what a frame means. That is `contracts.wire`.
"""

import asyncio
import struct
from collections.abc import Callable
from typing import cast

from dayspring.contracts import wire

__all__ = ["FrameProtocol"]

_LENGTH = struct.Struct("<I")


class FrameProtocol(asyncio.Protocol):
    """Calls `on_frame(body)` for each frame and `on_end()` once, when the other side is gone."""

    def __init__(self, on_frame: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # a stream socket's; uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        while end - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > wire.MAX_FRAME_BYTES:
                self.close()
                return
            stop = start + _LENGTH.size + length
            if stop > end:
                break
            self._on_frame(bytes(buffer[start + _LENGTH.size : stop]))
            start = stop
        del buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_end()

    def send(self, message: wire.ToWorker | wire.FromWorker) -> None:
        """Sends one message; after the end nothing happens, as nobody is there to read it."""
        if self._transport is not None:
            self._transport.write(wire.encode(message))

    def close(self) -> None:
        """Sends what is buffered, then ends the connection."""
        if self._transport is not None:
            self._transport.close()
