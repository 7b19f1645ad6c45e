"""Safetensors (huggingface.co/docs/safetensors), header only.

The header is at most 100 MB, names no tensor twice, and its tensors tile the rest of the file exactly: no gap, no
overlap, no byte left over.
"""

import json
import math
from collections import Counter
from typing import Any, BinaryIO

from dayspring.hub.formats.cursor import Cursor
from dayspring.hub.formats.header import Header

__all__ = ["MAX_HEADER_BYTES", "looks_like_safetensors", "read_safetensors", "read_safetensors_shapes"]

MAX_HEADER_BYTES = 100_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether the first 9 bytes are a length and the start of a JSON object."""
    return len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def read_safetensors(stream: BinaryIO, size: int, file: str) -> Header:
    """Facts: tensors, parameters, quantisation (the type of most bytes). Raises Refused, NeedMore."""
    cursor = Cursor(stream, size, file)
    header = _entries(cursor)
    tiles, parameters, types = [], 0, Counter[str]()
    for name, entry in header.items():
        begin, end, kind, weights = _entry(cursor, name, entry)
        tiles.append((begin, end))
        parameters += weights
        types[kind] += end - begin
    at = 0
    for begin, end in sorted(tiles):
        if begin != at:
            raise cursor.refuse("its tensors overlap or leave a gap")
        at = end
    if at != cursor.left:
        raise cursor.refuse(f"its tensors take {at} bytes and {cursor.left} are there")
    facts: dict[str, Any] = {"tensors": len(header), "parameters": parameters}
    if types:
        facts["quantisation"] = types.most_common(1)[0][0]
    return Header("safetensors", facts)


def read_safetensors_shapes(stream: BinaryIO, size: int, file: str) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, the slowest dimension first. Raises Refused, NeedMore."""
    cursor = Cursor(stream, size, file)
    shapes = {}
    for name, entry in _entries(cursor).items():
        _entry(cursor, name, entry)
        shapes[name] = tuple(entry["shape"])
    return shapes


def _entries(cursor: Cursor) -> dict[str, Any]:
    """The header's tensors by name, each still to be looked at."""
    length = cursor.u64()
    if length > MAX_HEADER_BYTES:
        raise cursor.refuse(f"its header claims {length} bytes; at most {MAX_HEADER_BYTES} are read")
    try:
        header = json.loads(cursor.read(length), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise cursor.refuse("its header is no JSON object, or names a tensor twice") from None
    if not isinstance(header, dict):
        raise cursor.refuse("its header is no JSON object")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict):
        raise cursor.refuse("the notes in its header are no JSON object")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _entry(cursor: Cursor, name: str, entry: object) -> tuple[int, int, str, int]:
    """Begin, end, type and number of weights of one tensor."""
    fields = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = fields.get("dtype"), _naturals(fields.get("shape")), _naturals(fields.get("data_offsets"))
    if not isinstance(kind, str) or shape is None or offsets is None or len(offsets) != 2:
        raise cursor.refuse(f"tensor {name[:64]!r} is not described as the format asks")
    if kind not in _BITS:
        raise cursor.refuse(f"tensor {name[:64]!r} has unknown type {kind[:16]!r}")
    weights = math.prod(shape)
    begin, end = offsets
    if end > cursor.size or begin > end or weights * _BITS[kind] != (end - begin) * 8:
        raise cursor.refuse(f"tensor {name[:64]!r} has another size than its shape says")
    return begin, end, kind, weights


def _naturals(value: object) -> list[int] | None:
    """The list, if it is a short one of whole numbers."""
    if not isinstance(value, list) or len(value) > 16:
        return None
    return value if all(type(item) is int and 0 <= item < 1 << 48 for item in value) else None
