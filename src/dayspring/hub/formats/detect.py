"""Which format a file has, and whether it may come in at all.

A file is admitted when its header is one of the formats, or when it is text without code. Anything else is refused:
what is not recognised is not trusted.
"""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from dayspring.core.errors import Refused
from dayspring.hub.formats.ctranslate2 import looks_like_ctranslate2, read_ctranslate2
from dayspring.hub.formats.cursor import NeedMore
from dayspring.hub.formats.diffusers import INDEX, read_diffusers
from dayspring.hub.formats.gguf import MAGIC, read_gguf
from dayspring.hub.formats.header import Header
from dayspring.hub.formats.onnx import looks_like_onnx, read_onnx
from dayspring.hub.formats.pickles import REMEDY, is_pickle
from dayspring.hub.formats.safetensors import looks_like_safetensors, read_safetensors
from dayspring.hub.formats.tflite import looks_like_tflite, read_tflite

__all__ = ["WEIGHTS", "read_file_header", "read_header"]

WEIGHTS = frozenset({"gguf", "safetensors", "onnx", "ctranslate2", "tflite"})
"""Formats that hold weights."""
_TEXT_SUFFIXES = frozenset(
    {".json", ".txt", ".md", ".model", ".yaml", ".yml", ".jinja", ".spm", ".vocab", ".merges", ""}
)
_CODE_SUFFIXES = frozenset({".py", ".pyc", ".so", ".sh", ".exe", ".dll", ".pyd", ".bat"})
_MAX_CONFIG_BYTES = 64 << 20
HEAD_BYTES = 65_536


def read_file_header(path: Path, name: str) -> Header:
    """The header of a whole file on this machine, called `name` in a refusal. Raises Refused."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        try:
            return read_header(stream, size, name)
        except NeedMore:
            raise Refused(file=name, rule="it is cut short", remedy="Fetch it again.") from None


def read_header(stream: BinaryIO, size: int, name: str) -> Header:
    """The header of a file of `size` bytes whose first part is in `stream`. Raises Refused, NeedMore."""
    head = stream.read(HEAD_BYTES)
    if len(head) < min(size, 4096):
        raise NeedMore(min(size, HEAD_BYTES))
    stream.seek(0)
    if head.startswith(MAGIC):
        return read_gguf(stream, size, name)
    if head.startswith(b"PK\x03\x04"):
        return _zip(stream, size, name)
    if looks_like_tflite(head):
        return read_tflite(stream, size, name)
    if head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh")):
        return Header("tar")
    if looks_like_safetensors(head, size) or (name.endswith(".safetensors") and not is_pickle(head)):
        return read_safetensors(stream, size, name)
    if looks_like_ctranslate2(head):
        return read_ctranslate2(stream, size, name)
    if is_pickle(head):
        raise Refused(file=name, rule="it is a pickle", remedy=REMEDY)
    if looks_like_onnx(head) and name.endswith(".onnx"):
        return read_onnx(stream, size, name)
    return _text(stream, head, size, name)


def _zip(stream: BinaryIO, size: int, name: str) -> Header:
    """A zip, unless it is the envelope of a pickle (as torch.save makes it)."""
    stream.seek(0, io.SEEK_END)
    if stream.tell() < size:
        if size > 64 << 20:
            return Header("zip")
        raise NeedMore(size)
    stream.seek(0)
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        raise Refused(file=name, rule="it is no readable zip", remedy="Fetch it again.") from None
    if any(member.rsplit("/", 1)[-1] == "data.pkl" for member in names):
        raise Refused(file=name, rule="it is a pickle in a zip", remedy=REMEDY)
    return Header("zip")


def _text(stream: BinaryIO, head: bytes, size: int, name: str) -> Header:
    suffix = Path(name).suffix.lower()
    if suffix in _CODE_SUFFIXES:
        raise Refused(file=name, rule="it is program code", remedy="Take a model that needs none of its own.")
    if name.rsplit("/", 1)[-1] == INDEX or suffix == ".json":
        stream.seek(0)
        return _json(stream.read(_MAX_CONFIG_BYTES + 1), size, name)
    # A sentencepiece vocabulary (.model, .spm) is a protobuf of words; the rest must be readable text.
    if suffix in _TEXT_SUFFIXES and (suffix in {".model", ".spm"} or _is_utf8(head)):
        return Header("text")
    raise Refused(
        file=name,
        rule="its format is none that is known here",
        remedy="Choose a GGUF, safetensors, ONNX, CTranslate2 or TensorFlow Lite file.",
    )


def _is_utf8(head: bytes) -> bool:
    try:
        # The last character may be cut by the end of the part.
        head[: max(len(head) - 3, 0) if len(head) >= HEAD_BYTES else len(head)].decode("utf-8")
    except UnicodeDecodeError as error:
        return len(head) >= HEAD_BYTES and error.start >= len(head) - 8
    return b"\0" not in head


def _json(data: bytes, size: int, name: str) -> Header:
    if len(data) < size <= _MAX_CONFIG_BYTES:
        raise NeedMore(size)
    try:
        fields: Any = json.loads(data) if len(data) <= _MAX_CONFIG_BYTES else None
    except (ValueError, RecursionError):
        fields = None
    if fields is None:
        raise Refused(file=name, rule="it is no JSON, or too much of it", remedy="Fetch it again.")
    if name.rsplit("/", 1)[-1] == INDEX:
        return read_diffusers(data, name)
    if isinstance(fields, dict) and ("auto_map" in fields or "custom_pipelines" in fields):
        raise Refused(
            file=name,
            rule="it asks for code of the model's own ('auto_map')",
            remedy="Take a model that needs none: remote code is never run here.",
        )
    return Header("text")
