"""GGUF versions 2 and 3 (github.com/ggml-org/ggml/blob/master/docs/gguf.md), header only.

Arrays are walked, never kept: a vocabulary of a million words costs time, not memory. Every tensor must lie inside the
file. Weights are not looked at.
"""

import math
from collections import Counter
from typing import Any, BinaryIO

from dayspring.hub.formats.cursor import Cursor
from dayspring.hub.formats.header import Header
from dayspring.hub.formats.projector import projector_facts

__all__ = ["MAGIC", "read_gguf", "read_gguf_shapes"]

MAGIC = b"GGUF"
_MAX_PAIRS = 1 << 16
_MAX_TENSORS = 1 << 18
_MAX_KEPT_TEXT = 1 << 20
_MAX_ARRAY_TEXTS = 1 << 22
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9

_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Type number: name, weights in a block, bytes in a block. A number not listed is counted but its size not checked."""

_POOLING = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}


def read_gguf(stream: BinaryIO, size: int, file: str) -> Header:
    """Facts of the header: architecture, name, context_length, embedding_length, block_count, head_count,
    head_count_kv, key_length, value_length, vocabulary, tokenizer, pooling, has_chat_template, licence, parameters,
    quantisation; of an adapter or projector `kind`, and what `_other_facts` says. Raises Refused, NeedMore."""
    values, shapes, types = _read(stream, size, file)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    return Header("gguf", _facts(values, parameters, types) | _other_facts(values, shapes))


def read_gguf_shapes(stream: BinaryIO, size: int, file: str) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape, the fastest dimension first. Raises Refused, NeedMore."""
    return _read(stream, size, file)[1]


def _read(stream: BinaryIO, size: int, file: str) -> tuple[dict[str, Any], dict[str, tuple[int, ...]], Counter[str]]:
    """The header's values, its tensors' shapes, and bytes by type."""
    cursor = Cursor(stream, size, file)
    if cursor.read(4) != MAGIC:
        raise cursor.refuse("it is no GGUF file")
    version = cursor.u32()
    if version not in (2, 3):
        raise cursor.refuse(f"GGUF version {version} is not one of 2 and 3 (little-endian)")
    tensors, pairs = cursor.u64(), cursor.u64()
    if pairs > _MAX_PAIRS or tensors > _MAX_TENSORS or (pairs * 13 + tensors * 24) > size:
        raise cursor.refuse(f"its header claims {pairs} entries and {tensors} tensors")
    values: dict[str, Any] = {}
    for _ in range(pairs):
        key = _text(cursor, 65_535)
        if key in values:
            raise cursor.refuse(f"its header has {key!r} twice")
        values[key] = _value(cursor, cursor.u32())
    return values, *_tensors(cursor, tensors, values.get("general.alignment", 32))


def _text(cursor: Cursor, limit: int) -> str:
    length = cursor.u64()
    if length > limit:
        raise cursor.refuse(f"a name in its header is {length} bytes long")
    return cursor.read(length).decode("utf-8", "replace")


def _value(cursor: Cursor, kind: int) -> Any:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == _TEXT:
        length = cursor.u64()
        if length > _MAX_KEPT_TEXT:
            cursor.skip(length)
            return ""
        return cursor.read(length).decode("utf-8", "replace")
    if kind == _ARRAY:
        return _array(cursor)
    raise cursor.refuse(f"its header has a value of unknown type {kind}")


def _array(cursor: Cursor) -> Any:
    """The first number of an array of numbers (per-layer values), else {"count": n}."""
    kind, count = cursor.u32(), cursor.u64()
    if kind in _WIDTHS:
        length = count * _WIDTHS[kind]
        if count and kind != 7 and length <= cursor.left and count <= 4096:
            numbers = [cursor.number(_SCALARS[kind]) for _ in range(count)]
            return {"count": count, "largest": max(numbers)}
        cursor.skip(length)
    elif kind == _TEXT:
        if count > _MAX_ARRAY_TEXTS or count * 8 > cursor.left:
            raise cursor.refuse(f"its header claims a list of {count} texts")
        for _ in range(count):
            cursor.skip(cursor.u64())
    else:
        raise cursor.refuse(f"its header has a list of type {kind}")
    return {"count": count}


def _tensors(cursor: Cursor, count: int, alignment: object) -> tuple[dict[str, tuple[int, ...]], Counter[str]]:
    """Shapes by name, and bytes by type."""
    if not isinstance(alignment, int) or alignment not in {1 << power for power in range(3, 17)}:
        raise cursor.refuse(f"its alignment is {alignment!r}")
    shapes: dict[str, tuple[int, ...]] = {}
    found: list[tuple[int, int]] = []
    types = Counter[str]()
    for _ in range(count):
        name = _text(cursor, 1024)
        rank = cursor.u32()
        if name in shapes or rank > 8:
            raise cursor.refuse(f"tensor {name[:64]!r} is there twice or has {rank} dimensions")
        shapes[name] = tuple(cursor.u64() for _ in range(rank))
        weights = math.prod(shapes[name])
        kind, offset = cursor.u32(), cursor.u64()
        if kind not in _TYPES and kind > 127:
            raise cursor.refuse(f"tensor {name[:64]!r} has unknown type {kind}")
        label, block, width = _TYPES.get(kind, (f"type {kind}", 1, 0))
        length = -(-weights // block) * width
        if offset % alignment or weights > 1 << 48:
            raise cursor.refuse(f"tensor {name[:64]!r} is misplaced or impossibly large")
        found.append((offset, length))
        types[label] += length
    start = -(-cursor.at // alignment) * alignment
    if any(start + offset + length > cursor.size for offset, length in found):
        raise cursor.refuse("its tensors reach past its end: the file is cut short or its header lies")
    return shapes, types


def _number(value: object) -> int:
    """A number, or the largest of a list of them (per-layer values)."""
    if isinstance(value, dict):
        value = value.get("largest")
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and 0 <= value < 1 << 53 else 0


def _facts(values: dict[str, Any], parameters: int, types: Counter[str]) -> dict[str, Any]:
    architecture = str(values.get("general.architecture", ""))[:64]
    pooling = values.get(f"{architecture}.pooling_type")
    tokens = values.get("tokenizer.ggml.tokens")
    facts = {
        "architecture": architecture,
        "name": str(values.get("general.name", ""))[:200],
        "licence": str(values.get("general.license", ""))[:100],
        "context_length": _number(values.get(f"{architecture}.context_length")),
        "embedding_length": _number(values.get(f"{architecture}.embedding_length")),
        "block_count": _number(values.get(f"{architecture}.block_count")),
        "head_count": _number(values.get(f"{architecture}.attention.head_count")),
        "head_count_kv": _number(values.get(f"{architecture}.attention.head_count_kv")),
        "key_length": _number(values.get(f"{architecture}.attention.key_length")),
        "value_length": _number(values.get(f"{architecture}.attention.value_length")),
        "vocabulary": _number(tokens.get("count")) if isinstance(tokens, dict) else 0,
        "tokenizer": str(values.get("tokenizer.ggml.model", ""))[:64],
        "pooling": _POOLING.get(pooling, "") if isinstance(pooling, int) else "",
        "has_chat_template": bool(values.get("tokenizer.chat_template")),
        "split_count": _number(values.get("split.count")),
        "parameters": parameters,
        "quantisation": types.most_common(1)[0][0] if types else "",
    }
    return {key: value for key, value in facts.items() if value not in ("", 0, False)}


def _other_facts(values: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """What a file is that is no model by itself: `kind` is `adapter` or `projector`; nothing for a model.

    Of an adapter: adapter_type, rank, alpha, base_name, and `shapes` of its tensors, to be compared with its base's.
    """
    if values.get("general.architecture") == "clip":
        return {"kind": "projector"} | projector_facts(values)
    if values.get("general.type") != "adapter":
        return {}
    alpha = values.get("adapter.lora.alpha")
    facts = {
        "kind": "adapter",
        "adapter_type": str(values.get("adapter.type", ""))[:32],
        "rank": max(
            (shape[1] for name, shape in shapes.items() if name.endswith(".lora_a") and len(shape) > 1), default=0
        ),
        "alpha": float(alpha) if isinstance(alpha, int | float) and math.isfinite(alpha) else 0.0,
        "base_name": str(values.get("general.base_model.0.name", ""))[:200],
        "activated": "adapter.alora.invocation_tokens" in values,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
    }
    return {key: value for key, value in facts.items() if value not in ("", 0, False)}
