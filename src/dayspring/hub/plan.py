"""What adding a model would do, as plain values that can be shown, stored and sent between processes.

A plan holds no secret: credentials are looked up again when its files are fetched.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from dayspring.contracts.models import Ability

__all__ = ["Found", "Licence", "Local", "Part", "Plan", "PlannedFile", "Progress", "ProgressCallback", "Remote"]


class Remote(msgspec.Struct, frozen=True, omit_defaults=True, tag="remote"):
    """A file behind an address."""

    url: str
    sha256: str = ""
    size_bytes: int = 0
    """0: not told."""
    operator: bool = False
    """As in `network.Request`."""
    credentials: Literal["", "hf", "modelscope", "civitai", "npm", "index"] = ""
    expect_headers: dict[str, str] = {}
    """Headers that, where an answer has them, must have this value."""
    git_oid: str = ""
    """Git's SHA-1 of a small file that has no SHA-256."""
    sha512: str = ""
    """In hexadecimal, where a registry promises this and no SHA-256."""


class Local(msgspec.Struct, frozen=True, tag="local"):
    """A file on this machine."""

    path: str
    size_bytes: int


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run of bytes: a whole file, or a member of the archive it is (and of the archive that is, and so on)."""

    origin: Remote | Local
    members: tuple[str, ...] = ()
    sha256: str = ""
    size_bytes: int = 0


class PlannedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of the model: its parts in order, joined."""

    path: str
    parts: tuple[Part, ...]
    sha256: str = ""
    size_bytes: int = 0


class Licence(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str = ""
    """SPDX id where there is one; empty when nobody says."""
    said_by: str = ""
    """`catalogue`, `model card`, `file header`, `package`, `hub`, or `operator`."""
    text: str = ""
    """What an acceptance is of: the licence's text or address where known, else its name."""
    commercial: Literal["", "yes", "no"] = ""
    """What the hub's own permissions say of commercial use; empty: the name decides."""


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a source answers."""

    name: str
    """A good id for the model."""
    pinned: str
    """The source with every choice fixed: version, commit, file."""
    files: tuple[PlannedFile, ...]
    licence: Licence = Licence()
    warnings: tuple[str, ...] = ()
    owned_by: str = ""
    facts: dict[str, Any] = {}
    """What is known without reading a header (a catalogue entry says it)."""
    about: dict[str, Any] = {}
    """What the source tells of the model besides, kept with it: a base model, words it was trained on."""
    options: dict[str, Any] = {}
    """Settings for its engine that come with it."""


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    source: str
    pinned: str
    files: tuple[PlannedFile, ...]
    download_bytes: int
    """Still to come over the network: what is here already is not counted."""
    disk_bytes: int
    """Most disk space needed on the way."""
    disk_free_bytes: int
    format: str
    """Of what will be run, so after a conversion; empty when only the download can tell."""
    engine: str
    """The one that will run it; empty when none can."""
    abilities: tuple[Ability, ...]
    licence: Licence
    needs_licence_acceptance: bool
    memory_bytes: int
    """What the engine expects to need."""
    memory_limit_bytes: int
    context_tokens: int = 0
    conversion: str = ""
    """What will be converted to what, in words; empty for nothing."""
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    """Why `add` would refuse; empty when it would not."""
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    owned_by: str = ""
    base: str = ""
    """For an adapter: id of the model it changes."""

    @property
    def size_bytes(self) -> int:
        """Of all files as they come, in bytes; 0 for those not told."""
        return sum(file.size_bytes for file in self.files)


class Progress(msgspec.Struct, frozen=True):
    phase: Literal["download", "verify", "convert", "pack", "unpack", "done"]
    model: str
    file: str
    done_bytes: int
    total_bytes: int
    """0: not known."""


ProgressCallback = Callable[[Progress], None]
