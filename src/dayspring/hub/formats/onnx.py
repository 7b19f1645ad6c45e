"""ONNX (github.com/onnx/onnx/blob/main/onnx/onnx.proto): the outer protobuf fields, and where weights are kept apart.

Protobuf has no magic number, so a file is ONNX when its outer fields are those of ModelProto and a graph is among them.
Weights in another file may only be named beside the model: an absolute name or one with `..` is refused.
"""

from typing import BinaryIO

from dayspring.hub.formats.cursor import Cursor
from dayspring.hub.formats.header import Header
from dayspring.hub.formats.names import unsafe_name

__all__ = ["looks_like_onnx", "read_onnx"]

_MODEL = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""ModelProto's fields and their wire types."""
_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _IR_VERSION, _PRODUCER = 7, 5, 13, 1, 2
_MAX_FIELDS = 1 << 20


def looks_like_onnx(head: bytes) -> bool:
    """Whether the file starts with a small ir_version, as every writer known to us lets it."""
    return len(head) >= 3 and head[0] == 0x08 and 1 <= head[1] <= 32 and head[2] >> 3 in _MODEL


def read_onnx(stream: BinaryIO, size: int, file: str) -> Header:
    """Facts: ir_version, producer, external_data (names). Raises Refused, NeedMore."""
    cursor = Cursor(stream, size, file)
    version, producer, graph = 0, "", False
    external: set[str] = set()
    budget = [_MAX_FIELDS]
    while cursor.left:
        field, wire = _key(cursor, budget)
        if _MODEL.get(field) != wire:
            raise cursor.refuse(f"field {field} of type {wire} is none of an ONNX model's")
        if wire == 0:
            value = cursor.varint()
            version = value if field == _IR_VERSION else version
            continue
        length = cursor.varint()
        if field == _GRAPH:
            graph = True
            _graph(cursor, _end(cursor, length), external, budget)
        elif field == _PRODUCER and length <= 200:
            producer = cursor.read(length).decode("utf-8", "replace")
        else:
            cursor.skip(length)
    if not version or not graph:
        raise cursor.refuse("it has no ONNX version or no graph")
    for name in external:
        if unsafe_name(name):
            raise cursor.refuse(f"its weights are said to be in {name[:80]!r}, outside the model's folder")
    facts = {"ir_version": version, "producer": producer, "external_data": sorted(external)}
    return Header("onnx", {key: value for key, value in facts.items() if value})


def _key(cursor: Cursor, budget: list[int]) -> tuple[int, int]:
    budget[0] -= 1
    if budget[0] < 0:
        raise cursor.refuse(f"it has over {_MAX_FIELDS} fields")
    key = cursor.varint()
    return key >> 3, key & 7


def _end(cursor: Cursor, length: int) -> int:
    if length > cursor.left:
        raise cursor.refuse(f"its header claims {length} bytes where {cursor.left} are left")
    return cursor.at + length


def _skip(cursor: Cursor, wire: int) -> None:
    if wire == 0:
        cursor.varint()
    elif wire in (1, 5):
        cursor.skip(8 if wire == 1 else 4)
    elif wire == 2:
        cursor.skip(cursor.varint())
    else:
        raise cursor.refuse(f"it has a field of unknown type {wire}")


def _inside(cursor: Cursor, end: int, wanted: int, budget: list[int]) -> list[int]:
    """The ends of the messages in field `wanted`, one at a time: the caller reads each before the next."""
    found = []
    while cursor.at < end:
        field, wire = _key(cursor, budget)
        if field == wanted and wire == 2:
            found.append(_end(cursor, cursor.varint()))
            return found
        _skip(cursor, wire)
    if cursor.at != end:
        raise cursor.refuse("one of its fields reaches past the one around it")
    return found


def _graph(cursor: Cursor, end: int, external: set[str], budget: list[int]) -> None:
    while tensor := _inside(cursor, end, _INITIALIZER, budget):
        while entry := _inside(cursor, tensor[0], _EXTERNAL_DATA, budget):
            _location(cursor, entry[0], external, budget)


def _location(cursor: Cursor, end: int, external: set[str], budget: list[int]) -> None:
    """A StringStringEntryProto: key is field 1, value is field 2."""
    pair = {1: "", 2: ""}
    while cursor.at < end:
        field, wire = _key(cursor, budget)
        if field in pair and wire == 2:
            length = cursor.varint()
            if length > 4096:
                raise cursor.refuse("a name in it is over 4096 bytes long")
            pair[field] = cursor.read(length).decode("utf-8", "replace")
        else:
            _skip(cursor, wire)
    if cursor.at != end:
        raise cursor.refuse("one of its fields reaches past the one around it")
    if pair[1] == "location":
        external.add(pair[2])
