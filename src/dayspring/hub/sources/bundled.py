"""`bundle:` sources: a model in a bundle, unpacked or still one file. Its files are held to the manifest's hashes.

The licence is the one recorded where the bundle was made, so an acceptance is asked for here again: it was another
organisation's word, perhaps.
"""

import asyncio
from pathlib import Path

from dayspring.core.errors import InvalidRequest, NotFound, Refused
from dayspring.hub.bundle.manifest import MANIFEST, TOP, BundledModel, Manifest, read_manifest
from dayspring.hub.fetching.archives import open_archive
from dayspring.hub.plan import Found, Local, Part, PlannedFile
from dayspring.hub.sources.address import Address

__all__ = ["find_bundled"]

_MAX_MANIFEST_BYTES = 32 << 20


async def find_bundled(address: Address) -> Found:
    """Raises NotFound, InvalidRequest when it must be said which model is meant, Refused."""
    return await asyncio.to_thread(_find, Path(address.name), address.inside)


def _find(place: Path, wanted: str) -> Found:
    manifest = _manifest(place)
    names = [each.model.id for each in manifest.models]
    if not wanted and len(names) != 1:
        raise InvalidRequest(f"The bundle has several models or none. Name one after '#': {', '.join(names) or '-'}.")
    found = next((each for each in manifest.models if each.model.id == (wanted or names[0])), None)
    if found is None:
        raise NotFound("model in the bundle", wanted, f"It has: {', '.join(names) or 'none'}.")
    model = found.model
    return Found(
        name=model.id,
        pinned=model.source,
        files=tuple(_planned(place, found)),
        licence=found.licence,
        owned_by=model.owned_by,
        about=model.metadata,
        options=model.options,
    )


def _planned(place: Path, found: BundledModel) -> list[PlannedFile]:
    folder = place.is_dir()
    planned = []
    for file in found.files:
        if folder:
            local = place / file.path
            if not local.resolve().is_relative_to(place.resolve()) or not local.is_file():
                raise Refused(file=file.path, rule="it is missing, or a link", remedy="Unpack the bundle again.")
            part = Part(Local(str(local), file.size_bytes), (), file.sha256, file.size_bytes)
        else:
            whole = Local(str(place), place.stat().st_size)
            part = Part(whole, (f"{TOP}/{file.path}",), file.sha256, file.size_bytes)
        planned.append(PlannedFile(found.name_of(file), (part,), file.sha256, file.size_bytes))
    return planned


def _manifest(place: Path) -> Manifest:
    name = place.name
    if place.is_dir():
        file = place / MANIFEST
        if not file.is_file():
            raise NotFound("bundle in", str(place), "It is a folder with a manifest.json, or the .tar itself.")
        return read_manifest(file.read_bytes(), name)
    if not place.is_file():
        raise NotFound("file", str(place), "Check the path.")
    with open_archive(place, name) as archive:
        data = bytearray()
        for chunk in archive.read(f"{TOP}/{MANIFEST}"):
            data += chunk
            if len(data) > _MAX_MANIFEST_BYTES:
                raise Refused(file=name, rule="its manifest is too long", remedy="Make the bundle again.")
    return read_manifest(bytes(data), name)
