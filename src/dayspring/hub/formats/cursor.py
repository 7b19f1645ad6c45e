"""Reading a header that may lie: every length is checked against the file before a byte is read.

Numbers are little-endian. A length past the end of the file is Refused; a length past the end of the bytes at hand
(the first part of a remote file) is NeedMore, and the caller fetches a longer part.
"""

import struct
from typing import BinaryIO

from dayspring.core.errors import Refused

__all__ = ["Cursor", "NeedMore"]


class NeedMore(Exception):  # noqa: N818 - not an error: an answer to the caller
    """The bytes at hand end before the header does. `bytes` is how many from the start are needed at least."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.bytes = needed


class Cursor:
    """A place in `stream`, whose whole file has `size` bytes. `file` is the name a refusal gives."""

    def __init__(self, stream: BinaryIO, size: int, file: str) -> None:
        self._stream = stream
        self.size = size
        self.file = file
        self.at = stream.tell()

    @property
    def left(self) -> int:
        return self.size - self.at

    def refuse(self, rule: str) -> Refused:
        """The refusal of this file for a broken header."""
        return Refused(file=self.file, rule=rule, remedy="Fetch the file again or take it from another source.")

    def read(self, length: int) -> bytes:
        if length > self.left:
            raise self.refuse(f"its header claims {length} bytes where {self.left} are left")
        data = self._stream.read(length)
        if len(data) < length:
            raise NeedMore(self.at + length)
        self.at += length
        return data

    def skip(self, length: int) -> None:
        if length > self.left:
            raise self.refuse(f"its header claims {length} bytes where {self.left} are left")
        self.at += length
        self._stream.seek(self.at)

    def number(self, code: str) -> int | float | bool:
        """One value of a `struct` code such as "I"."""
        value: int | float | bool = struct.unpack("<" + code, self.read(struct.calcsize("<" + code)))[0]
        return value

    def u32(self) -> int:
        return int.from_bytes(self.read(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.read(8), "little")

    def varint(self) -> int:
        """A protobuf varint of at most 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.read(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & (1 << 64) - 1
        raise self.refuse("a number in its header does not end")
