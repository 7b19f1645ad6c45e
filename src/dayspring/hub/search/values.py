"""What a search tells of a model, alike for every hub."""

from enum import StrEnum
from typing import Any, Literal

import msgspec

from dayspring.hub.licences import CommercialUse, commercial_use
from dayspring.hub.plan import Licence

__all__ = ["HUBS", "Fit", "Found", "Hit", "HubName", "Seen", "fields", "hit", "listed", "natural", "text"]


class HubName(StrEnum):
    """A hub that can be searched, by the scheme of its addresses."""

    HF = "hf"
    MODELSCOPE = "modelscope"
    CIVITAI = "civitai"


HUBS = tuple(HubName)


class Seen(msgspec.Struct, frozen=True):
    """One entry of a hub's answer, read."""

    hub: HubName
    name: str
    source: str
    """The address to add it by."""
    page: str
    formats: tuple[str, ...]
    """As far as names and tags tell: `gguf`, `safetensors`, `onnx`, `pickle`."""
    licence: Licence = Licence()
    size_bytes: int = 0
    """Of what would be fetched; 0 when the hub does not tell."""
    parameters: int = 0
    gated: bool = False
    downloads: int = 0
    task: str = ""
    """What the hub says it is for, in the hub's own word."""


class Fit(msgspec.Struct, frozen=True):
    """Whether this machine could run it, as far as is known without reading its header."""

    verdict: Literal["yes", "no", "unknown"]
    reason: str


class Hit(msgspec.Struct, frozen=True):
    """A model that was found."""

    hub: HubName
    name: str
    source: str
    page: str
    format: str
    formats: tuple[str, ...]
    licence: str
    commercial_use: CommercialUse
    size_bytes: int
    parameters: int
    gated: bool
    downloads: int
    task: str
    fits: Fit
    here: bool
    """A model from this source is on this machine already."""


class Found(msgspec.Struct, frozen=True):
    hits: tuple[Hit, ...]
    failures: dict[str, str]
    """Hubs that did not answer, and why."""


def hit(seen: Seen, chosen: str, fits: Fit, *, here: bool) -> Hit:
    return Hit(
        seen.hub, seen.name, seen.source, seen.page, chosen, seen.formats, seen.licence.name,
        commercial_use(seen.licence), seen.size_bytes, seen.parameters, seen.gated, seen.downloads, seen.task, fits,
        here,
    )  # fmt: skip


def text(value: object, most: int = 200) -> str:
    """A text of an answer, of bounded length and without control characters: it ends on somebody's terminal."""
    return "".join(each for each in value[:most] if each.isprintable()) if isinstance(value, str) else ""


def listed(value: Any) -> list[Any]:
    """A list of an answer; empty for what is none."""
    return value if isinstance(value, list) else []


def fields(value: Any) -> dict[str, Any]:
    """An object of an answer; empty for what is none."""
    return value if isinstance(value, dict) else {}


def natural(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 1 << 60 else 0
