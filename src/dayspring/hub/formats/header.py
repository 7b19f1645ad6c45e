"""The value every reader of a format gives: the format's name and the facts of its header."""

from typing import Any

import msgspec

__all__ = ["Header"]


class Header(msgspec.Struct, frozen=True):
    format: str
    """`gguf`, `safetensors`, `onnx`, `ctranslate2`, `tflite`, `diffusers`, `zip`, `tar` or `text`."""
    facts: dict[str, Any] = {}
    """Small, JSON-able, and named as in `Model.metadata`."""
