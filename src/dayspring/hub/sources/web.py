"""`https:` sources: one file, or one member of an archive, from any public address."""

from urllib.parse import unquote, urlsplit

from dayspring.core.errors import Malformed
from dayspring.hub.choice import choose_files
from dayspring.hub.fetching.window import NoParts, RemoteWindow, ZipWindow
from dayspring.hub.plan import Found, Part, PlannedFile, Remote
from dayspring.hub.sources.address import Address
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["find_web"]


async def find_web(fetcher: Fetcher, address: Address, sha256: str) -> Found:
    """`sha256`, if given, is what the file (the archive, with a member) must have. Raises Refused, NotFound."""
    name = unquote(urlsplit(address.name).path).rsplit("/", 1)[-1]
    if not name:
        raise Malformed("the address names no file")
    pinned = address.name.split("?", 1)[0] + (f"#{address.inside}" if address.inside else "")
    try:
        window = await RemoteWindow.open(fetcher, Request(address.name))
    except NoParts:
        window = None
    remote = Remote(address.name, sha256, window.size_bytes if window else 0)
    warnings = () if sha256 else ("No hash was given: the file is taken as it comes, and its hash is recorded.",)
    if not address.inside:
        part = Part(remote, sha256=sha256, size_bytes=remote.size_bytes)
        file = PlannedFile(name, (part,), sha256, remote.size_bytes)
        return Found(name.rpartition(".")[0].lower() or name.lower(), pinned, (file,), warnings=warnings)
    sizes = {address.inside: 0}
    if window and name.endswith((".zip", ".whl")):
        archive = await ZipWindow.open(window, name)
        sizes = {member.name: member.size_bytes for member in archive.members}
    chosen, notes = choose_files(sizes, address.inside, name)
    prefix = f"{address.inside}/" if address.inside not in sizes else chosen[0].rpartition("/")[0] + "/"
    files = tuple(
        PlannedFile(member.removeprefix(prefix), (Part(remote, (member,), "", sizes[member]),), "", sizes[member])
        for member in chosen
    )
    found = files[0].path.rpartition(".")[0].lower() or files[0].path.lower()
    return Found(found, pinned, files, warnings=(*warnings, *notes))
