"""The models this release knows by name, from `catalogue.toml`: where each file's bytes are, and the hash of each.

A file may be several ordered parts, from several packages, each perhaps deep in nested archives. Each part and the
whole have a pinned SHA-256.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from dayspring.contracts.models import Ability

__all__ = ["DEFAULT_PACK", "CataloguedFile", "CataloguedModel", "CataloguedPart", "catalogue", "read_catalogue"]

DEFAULT_PACK = ("smollm2-135m-instruct", "all-minilm-l6-v2")
"""The chat and the embedding model of a fresh installation."""


class CataloguedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    """An address; what follows '#' is the first member."""
    sha256: str
    size_bytes: int
    members: tuple[str, ...] = ()
    """Further members: of the archive that the first one is, and so on."""
    archive_sha256: str = ""
    archive_bytes: int = 0


class CataloguedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    sha256: str
    size_bytes: int
    parts: tuple[CataloguedPart, ...]


class CataloguedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    licence: str
    format: str
    abilities: tuple[Ability, ...]
    files: tuple[CataloguedFile, ...]
    owned_by: str = ""
    licence_text: str = ""
    context_tokens: int = 0
    conversion: str = ""
    facts: dict[str, Any] = {}


def read_catalogue(text: str) -> dict[str, CataloguedModel]:
    """A catalogue in TOML. A file with `source` in place of `parts` is one part, and the part is the whole."""
    entries = tomllib.loads(text)
    for entry in entries.values():
        for file in entry.get("files", []):
            if "source" in file:
                whole = {key: file[key] for key in ("sha256", "size_bytes")}
                moved = ("source", "members", "archive_sha256", "archive_bytes")
                file["parts"] = [{**whole, **{key: file.pop(key) for key in moved if key in file}}]
    return msgspec.convert(entries, dict[str, CataloguedModel])


@cache
def catalogue() -> dict[str, CataloguedModel]:
    """The shipped catalogue, by model id."""
    return read_catalogue(files("dayspring.hub").joinpath("catalogue.toml").read_text("utf-8"))
