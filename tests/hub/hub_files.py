"""Small model files and archives, made by hand so that each byte is known."""

import hashlib
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def stored(home: Path) -> list[str]:
    """The digests in a home's blob store."""
    return sorted(file.name for file in (home / "blobs" / "sha256").rglob("*") if file.is_file())


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value: Any) -> bytes:
    """Type number and value."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, list):
        if value and isinstance(value[0], int):
            return struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(item) for item in value)
    return struct.pack("<I", 8) + text(value)


def gguf(
    values: dict[str, Any] | None = None, *, tensors: int = 2, rows: int = 4, version: int = 3, tail: int = 0
) -> bytes:
    """A GGUF of `tensors` float tensors of 8 x `rows`, its data shortened by `tail` bytes."""
    pairs = {
        "general.architecture": "llama",
        "general.license": "apache-2.0",
        "llama.context_length": 2048,
        "llama.embedding_length": 8,
        "llama.block_count": 1,
        "llama.attention.head_count": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["a", "b", "c"],
        "tokenizer.chat_template": CHAT_TEMPLATE,
    } | (values or {})
    out = bytearray(b"GGUF" + struct.pack("<IQQ", version, tensors, len(pairs)))
    for key, value in pairs.items():
        out += text(key) + gguf_value(value)
    for index in range(tensors):
        out += text(f"blk.{index}.weight") + struct.pack("<IQQIQ", 2, 8, rows, 0, index * 32 * rows)
    out += b"\0" * (-len(out) % 32)
    length = tensors * 32 * rows
    data = bytes(range(256)) * (length // 256 + 1)
    return bytes(out) + data[: max(length - tail, 0)]


def safetensors(tensors: dict[str, Any] | None = None, data: bytes | None = None) -> bytes:
    header = tensors or {
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]},
    }
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + (bytes(24) if data is None else data)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx(location: str = "") -> bytes:
    tensor = field(8, b"weight")
    if location:
        tensor += field(13, field(1, b"location") + field(2, location.encode()))
    graph = field(2, b"graph") + field(5, tensor) + field(5, field(8, b"other"))
    return field(1, 8) + field(2, b"maker") + field(7, graph) + field(8, field(2, 17))


def ctranslate2() -> bytes:
    def name(value: bytes) -> bytes:
        return struct.pack("<H", len(value) + 1) + value + b"\0"

    variable = name(b"encoder/weight") + struct.pack("<BII", 2, 2, 2) + struct.pack("<BI", 0, 16) + bytes(16)
    return struct.pack("<I", 6) + name(b"WhisperSpec") + struct.pack("<II", 3, 1) + variable


def tflite() -> bytes:
    return struct.pack("<I4sIi", 16, b"TFL3", 0, 0) + struct.pack("<i", 4) + bytes(32)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def wheel(name: str, version: str, members: dict[str, bytes]) -> tuple[str, bytes]:
    """File name and bytes."""
    info = f"{name}-{version}.dist-info/METADATA"
    data = zipped({**members, info: f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()})
    return f"{name}-{version}-py3-none-any.whl", data
