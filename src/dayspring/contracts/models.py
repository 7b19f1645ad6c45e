"""A model is data: what it can do, in which format, under which licence, and where its files are."""

from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["UNKNOWN_PICTURE_TOKENS", "Ability", "Adapter", "Modality", "Model"]

UNKNOWN_PICTURE_TOKENS = 4096
"""Tokens that one picture is taken to come to at most where a model does not say."""


class Ability(StrEnum):
    """What a model can be asked. The value is the tag of the task that asks it."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    RERANK = "rerank"


class Modality(StrEnum):
    """What a message may hold beside text. The value is the type of the content part that carries it."""

    IMAGE = "image_url"


class Adapter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a base model is loaded with: low-rank weights that a task may ask for by id."""

    id: str
    path: str
    """The file or folder on this machine."""
    sha256: str = ""
    rank: int = 0


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
    reads: tuple[Modality, ...] = ()
    """What its messages may hold beside text. An upstream reads what its service reads."""
    picture_tokens: int = 0
    """Most input tokens that one picture comes to; 0 when it is not known."""
    base: str = ""
    """For an adapter: id of the model it changes."""
    base_sha256: str = ""
    """For an adapter: what it was made for and checked against."""
    adapters: tuple[Adapter, ...] = ()
    """For a base: what its worker loads beside it. Filled in when the model is looked up, never stored."""
    host: "Model | None" = None
    """For an adapter: the base with its adapters, which is what a worker loads. Filled in like `adapters`."""

    def may_read(self, modality: str) -> bool:
        """Whether a content part of this type may be sent to it."""
        return modality in self.reads or self.format == "upstream"
