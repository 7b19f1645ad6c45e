"""A model is data: what it can do, in which format, under which licence, and where its files are."""

from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["Ability", "Model"]


class Ability(StrEnum):
    """What a model can be asked. The value is the tag of the task that asks it."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    """What clients send as `model`."""
    engine: str
    """The engine that runs it, by its entry-point name."""
    abilities: tuple[Ability, ...]
    format: str = ""
    """`gguf`, `safetensors`, ..., or `upstream`."""
    path: str = ""
    """The file or folder on this machine; empty for an upstream."""
    source: str = ""
    """Where it came from, as the operator wrote it (`pypi:...`, `hf:...`)."""
    sha256: str = ""
    """Of the file; of the sorted list of `hash  path` lines for a folder."""
    size_bytes: int = 0
    licence: str = ""
    """SPDX id where there is one."""
    context_tokens: int = 0
    """Most tokens of prompt and answer together; 0 when it does not apply or is not known."""
    dimensions: int = 0
    """Length of an embedding vector."""
    memory_bytes: int = 0
    """What the engine expects to need for weights and working memory, before it is measured."""
    created_at: int = 0
    """Unix seconds when it was added here."""
    owned_by: str = ""
    options: dict[str, Any] = {}
    """Settings of this model for its engine, checked by the engine."""
    metadata: dict[str, Any] = {}
    """Facts read from the file's header: architecture, parameters, quantisation."""
