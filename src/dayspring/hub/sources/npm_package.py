"""From an `npm:` address to the files in the package. A tarball has no directory at its end, as a wheel has: to tell
what is in it, all of it must be read, so a package is fetched for its plan unless it is large.
"""

import asyncio
from pathlib import Path

import msgspec

from dayspring.core.errors import InvalidRequest
from dayspring.core.settings import Settings
from dayspring.hub.choice import choose_files, is_weights
from dayspring.hub.fetching.archives import open_archive
from dayspring.hub.fetching.download import Downloader
from dayspring.hub.fetching.window import NoParts, RemoteWindow
from dayspring.hub.plan import Found, Part, PlannedFile
from dayspring.hub.sources.address import Address
from dayspring.hub.sources.npm_registry import Tarball, find_tarball
from dayspring.net.fetcher import Fetcher

__all__ = ["NpmPackages"]

_MAX_UNSEEN_BYTES = 256 << 20
"""Packages up to this size, unpacked where that is known, are fetched to make a plan. What was fetched is kept."""
_TOP = "package/"


class NpmPackages:
    def __init__(self, fetcher: Fetcher, downloader: Downloader, settings: Settings) -> None:
        self._fetcher = fetcher
        self._downloader = downloader
        self._settings = settings

    async def find(self, address: Address) -> Found:
        """The files of the package that make the model. Raises InvalidRequest where one must be named, Refused."""
        tarball = await find_tarball(self._fetcher, self._settings, address.name, address.revision)
        where = f"{address.name}@{address.revision}"
        pinned = f"npm:{where}" + (f"#{address.inside}" if address.inside else "")
        notes = list(tarball.warnings)
        size = tarball.unpacked_bytes or await self._packed_bytes(tarball)
        if 0 < size <= _MAX_UNSEEN_BYTES:
            files, more = await self._seen(tarball, address.inside, where)
            notes += more
        elif is_weights(address.inside):
            member = (_TOP + address.inside,)
            files = (PlannedFile(address.inside.rsplit("/", 1)[-1], (Part(tarball.origin, member),)),)
        else:
            raise InvalidRequest(
                f"{where} is over {_MAX_UNSEEN_BYTES >> 20} MiB or the registry does not tell its size, so it is not "
                "fetched to look into it. Name one file after '#'."
            )
        stem = files[0].path.rpartition(".")[0] if len(files) == 1 else address.name.rsplit("/", 1)[-1]
        owner = address.name.partition("/")[0].removeprefix("@") if address.name.startswith("@") else ""
        return Found(stem.lower(), pinned, files, tarball.licence, tuple(notes), owned_by=owner)

    async def _packed_bytes(self, tarball: Tarball) -> int:
        """The size of the package as it is fetched, for a registry that does not tell what it unpacks to."""
        try:
            return (await RemoteWindow.open(self._fetcher, self._downloader.request(tarball.origin))).size_bytes
        except NoParts:
            return 0

    async def _seen(self, tarball: Tarball, wanted: str, where: str) -> tuple[tuple[PlannedFile, ...], list[str]]:
        """The files that make the model, from the fetched package's own list."""
        digest = await self._downloader.fetch(tarball.origin, _unheard)
        origin = msgspec.structs.replace(tarball.origin, sha256=digest)
        path = self._downloader.here(origin)
        assert path is not None  # noqa: S101 - fetched one line above
        members = await asyncio.to_thread(_members, path, where)
        sizes = {name.removeprefix(_TOP): size for name, size in members.items()}
        top = {name.removeprefix(_TOP): name for name in members}
        chosen, notes = choose_files(sizes, wanted, where)
        prefix = f"{wanted}/" if wanted and wanted not in sizes else ""
        return tuple(
            PlannedFile(
                name.removeprefix(prefix) if prefix else name.rsplit("/", 1)[-1],
                (Part(origin, (top[name],), "", sizes[name]),),
                "",
                sizes[name],
            )
            for name in chosen
        ), notes


def _members(path: Path, where: str) -> dict[str, int]:
    with open_archive(path, where) as archive:
        return {member.name: member.size_bytes for member in archive.members}


def _unheard(done: int, total: int) -> None:
    """Nobody listens."""
