"""TensorFlow Lite: a FlatBuffer whose file identifier, at byte 4, is `TFL3`."""

from typing import BinaryIO

from dayspring.hub.formats.cursor import Cursor
from dayspring.hub.formats.header import Header

__all__ = ["looks_like_tflite", "read_tflite"]


def looks_like_tflite(head: bytes) -> bool:
    return head[4:8] == b"TFL3"


def read_tflite(stream: BinaryIO, size: int, file: str) -> Header:
    """No facts: the offsets of the root table and of its virtual table are checked. Raises Refused, NeedMore."""
    cursor = Cursor(stream, size, file)
    root = cursor.u32()
    if cursor.read(4) != b"TFL3":
        raise cursor.refuse("it is no TensorFlow Lite model")
    if not 8 <= root <= size - 4:
        raise cursor.refuse("its root lies outside the file")
    cursor.skip(root - cursor.at)
    table = root - int.from_bytes(cursor.read(4), "little", signed=True)
    if not 0 <= table <= size - 4:
        raise cursor.refuse("its root table lies outside the file")
    return Header("tflite")
