"""CTranslate2 (opennmt.net/CTranslate2): `model.bin`, told by its version number and the name of its specification."""

import struct
from typing import BinaryIO

from dayspring.hub.formats.cursor import Cursor
from dayspring.hub.formats.header import Header

__all__ = ["looks_like_ctranslate2", "read_ctranslate2"]

_MAX_VERSION = 16
_MAX_VARIABLES = 1 << 20


def looks_like_ctranslate2(head: bytes) -> bool:
    """Whether the first 64 bytes are a small version and a name that ends in `Spec`."""
    if len(head) < 8:
        return False
    version, length = struct.unpack("<IH", head[:6])
    name = head[6 : 6 + length].rstrip(b"\0")
    return 1 <= version <= _MAX_VERSION and 5 <= length <= 64 and name.endswith(b"Spec") and name.isalnum()


def read_ctranslate2(stream: BinaryIO, size: int, file: str) -> Header:
    """Facts: architecture, tensors, parameters. Raises Refused, NeedMore."""
    cursor = Cursor(stream, size, file)
    if not 2 <= cursor.u32() <= _MAX_VERSION:
        raise cursor.refuse("its CTranslate2 version is not known")
    name = _text(cursor)
    if not name.endswith("Spec"):
        raise cursor.refuse("it is no CTranslate2 model")
    cursor.u32()
    variables = cursor.u32()
    if variables > _MAX_VARIABLES or variables * 8 > cursor.left:
        raise cursor.refuse(f"its header claims {variables} variables")
    weights = 0
    for _ in range(variables):
        _text(cursor)
        rank = cursor.read(1)[0]
        dimensions = struct.unpack(f"<{rank}I", cursor.read(4 * rank))
        cursor.read(1)
        length = cursor.u32()
        cursor.skip(length)
        count = 1
        for dimension in dimensions:
            count *= dimension
        if count > 8 * max(length, 1):
            raise cursor.refuse("a variable has another size than its shape says")
        weights += count
    return Header("ctranslate2", {"architecture": name, "tensors": variables, "parameters": weights})


def _text(cursor: Cursor) -> str:
    length = int.from_bytes(cursor.read(2), "little")
    return cursor.read(length).rstrip(b"\0").decode("utf-8", "replace")
