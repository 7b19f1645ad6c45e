"""Writing a bundle: packages, models, an installer and the list of their hashes, as one tar.

What holds: every byte that goes in was hashed first, and a model's file is held to its hash once more while it is
copied; the file appears under its name whole or not at all. What it does not do: sign. The SHA-256 of the whole is
told, to be compared on the other side.
"""

import asyncio
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote

import msgspec

from dayspring import __version__
from dayspring.contracts.clock import Clock
from dayspring.contracts.models import Model
from dayspring.core.errors import Refused, Unavailable
from dayspring.hub.bundle.manifest import FORMAT, MANIFEST, TOP, BundledFile, BundledModel, Manifest
from dayspring.hub.bundle.packages import Target, gather
from dayspring.hub.bundle.readme import readme
from dayspring.hub.plan import Licence, Progress, ProgressCallback
from dayspring.store.models import ModelFile

__all__ = ["Content", "Made", "make_bundle"]

_CHUNK_BYTES = 1 << 20
_SCRIPTS = ("install.sh", "install.py")

Content = tuple[Model, Sequence[tuple[ModelFile, Path]]]
"""A model and the files it is made of, with where each lies."""


class Made(msgspec.Struct, frozen=True):
    """A finished bundle."""

    file: str
    sha256: str
    size_bytes: int
    python: str
    platform: str
    packages: int
    models: tuple[str, ...]


async def make_bundle(
    place: Path, contents: Sequence[Content], target: Target, scratch: Path, clock: Clock, progress: ProgressCallback
) -> Made:
    """Writes the bundle to `place`, replacing a file that is there. Raises Unavailable, Refused."""
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=scratch) as name:
        folder = Path(name)
        progress(Progress("pack", place.name, "packages", 0, 0))
        requirements = await gather(folder, target)
        return await asyncio.to_thread(_write, place, folder, contents, target, requirements, clock, progress)


def _write(
    place: Path,
    folder: Path,
    contents: Sequence[Content],
    target: Target,
    requirements: tuple[str, ...],
    clock: Clock,
    progress: ProgressCallback,
) -> Made:
    models = tuple(_bundled(model, made_of) for model, made_of in contents)
    sources = {f"wheels/{wheel.name}": wheel for wheel in sorted(folder.iterdir())}
    for bundled, (_, made_of) in zip(models, contents, strict=True):
        sources |= {file.path: path for file, (_, path) in zip(bundled.files, made_of, strict=True)}
    small = {name: files("dayspring.hub.bundle").joinpath(name).read_bytes() for name in _SCRIPTS}
    small["requirements.txt"] = ("\n".join(requirements) + "\n").encode()
    created_at = clock.time_ns() // 10**9
    listed = [_listed(path, source) for path, source in sources.items() if path.startswith("wheels/")]
    listed += [file for bundled in models for file in bundled.files]
    manifest = Manifest(
        FORMAT, __version__, target.python_version, target.platform, requirements, tuple(listed), models, created_at
    )
    small["README.txt"] = readme(manifest).encode()
    extra = tuple(BundledFile(name, hashlib.sha256(data).hexdigest(), len(data)) for name, data in small.items())
    manifest = msgspec.structs.replace(manifest, files=(*extra, *manifest.files))
    total = sum(file.size_bytes for file in manifest.files)
    partial = place.with_name(f".{place.name}.partial")
    try:
        with partial.open("wb") as stream:
            out = _Hashed(stream)
            _pack(out, manifest, small, sources, lambda done: progress(_packed(place.name, done, total)))
        partial.replace(place)
    except OSError as error:
        raise Unavailable(f"The bundle cannot be written ({error.strerror})", "Choose another place for it.") from None
    finally:
        partial.unlink(missing_ok=True)
    names = tuple(bundled.model.id for bundled in models)
    return Made(
        str(place), out.hexdigest(), place.stat().st_size, manifest.python, manifest.platform, len(requirements), names
    )


def _packed(name: str, done: int, total: int) -> Progress:
    return Progress("pack", name, "", done, total)


def _pack(
    out: "_Hashed",
    manifest: Manifest,
    small: dict[str, bytes],
    sources: dict[str, Path],
    report: Callable[[int], None],
) -> None:
    """The manifest first, so that a reader of the stream knows what to expect."""
    done = 0
    with tarfile.open(fileobj=cast("BinaryIO", out), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, MANIFEST, io.BytesIO(data := msgspec.json.format(msgspec.json.encode(manifest))), len(data))
        for file in manifest.files:
            if file.path in small:
                _add(archive, file.path, io.BytesIO(small[file.path]), file.size_bytes)
            else:
                with sources[file.path].open("rb") as stream:
                    checked = _Checked(stream, file, report, done)
                    _add(archive, file.path, checked, file.size_bytes)
                    checked.finish()
            done += file.size_bytes
            report(done)


def _add(archive: tarfile.TarFile, path: str, stream: object, size: int) -> None:
    """One member, with nothing of this machine about it: no owner, no time."""
    entry = tarfile.TarInfo(f"{TOP}/{path}")
    entry.size = size
    entry.mode = 0o755 if path.endswith(".sh") else 0o644
    archive.addfile(entry, stream)  # type: ignore[arg-type]  # it only reads


class _Hashed:
    """A stream that is hashed as it is written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._stream.write(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _Checked:
    """A file that is held to its hash while it is copied."""

    def __init__(self, stream: BinaryIO, file: BundledFile, report: Callable[[int], None], before: int) -> None:
        self._stream = stream
        self._file = file
        self._report = report
        self._done = before
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, _CHUNK_BYTES))
        self._digest.update(data)
        self._done += len(data)
        self._report(self._done)
        return data

    def finish(self) -> None:
        if self._digest.hexdigest() != self._file.sha256:
            raise Refused(file=self._file.path, rule="it is damaged", remedy="Remove the model and add it again.")


def _bundled(model: Model, made_of: Sequence[tuple[ModelFile, Path]]) -> BundledModel:
    """Raises Refused for a model that has no files."""
    if not made_of:
        raise Refused(file=model.id, rule="it is a service's model and has no files to carry", remedy="Leave it out.")
    folder = f"models/{quote(model.id, safe='')}"
    listed = tuple(BundledFile(f"{folder}/{file.path}", file.sha256, file.size_bytes) for file, _ in made_of)
    told = model.metadata
    licence = Licence(
        model.licence, str(told.get("licence_said_by", "")), str(told.get("licence_text", "")),
        told.get("licence_commercial", ""),
    )  # fmt: skip
    return BundledModel(msgspec.structs.replace(model, path="", host=None, adapters=()), licence, listed)


def _listed(path: str, source: Path) -> BundledFile:
    with source.open("rb") as stream:
        return BundledFile(path, hashlib.file_digest(stream, "sha256").hexdigest(), source.stat().st_size)
