"""`file:` sources: a file, a folder, or a member of an archive on this machine. It is copied, never linked."""

import asyncio
from pathlib import Path

from dayspring.core.errors import NotFound, Refused
from dayspring.hub.choice import choose_files
from dayspring.hub.fetching.archives import open_archive
from dayspring.hub.plan import Found, Local, Part, PlannedFile
from dayspring.hub.sources.address import Address

__all__ = ["find_local"]

_MAX_FILES = 10_000


async def find_local(address: Address) -> Found:
    """Raises NotFound, Refused for a link that leaves the folder or for what is no regular file."""
    return await asyncio.to_thread(_find, address)


def _find(address: Address) -> Found:
    path = Path(address.name)
    pinned = f"file:{path}" + (f"#{address.inside}" if address.inside else "")
    if path.is_dir():
        files, notes = _folder(path, address.inside)
        return Found(_id(path.name), pinned, files, warnings=tuple(notes))
    if not path.is_file():
        raise NotFound("file", address.name, "Check the path, and that the server may read it.")
    size = path.stat().st_size
    local = Local(str(path.resolve()), size)
    if not address.inside:
        return Found(_id(path.stem), pinned, (PlannedFile(path.name, (Part(local, size_bytes=size),), "", size),))
    with open_archive(path, path.name) as archive:
        sizes = {member.name: member.size_bytes for member in archive.members}
    chosen, notes = choose_files(sizes, address.inside, path.name)
    prefix = address.inside + "/" if address.inside not in sizes else chosen[0].rpartition("/")[0] + "/"
    files = tuple(
        PlannedFile(name.removeprefix(prefix), (Part(local, (name,), "", sizes[name]),), "", sizes[name])
        for name in chosen
    )
    return Found(_id(Path(chosen[0]).stem), pinned, files, warnings=tuple(notes))


def _folder(folder: Path, inside: str) -> tuple[tuple[PlannedFile, ...], list[str]]:
    root = folder.resolve()
    sizes: dict[str, int] = {}
    for file in sorted(root.rglob("*")):
        if file.is_dir():
            continue
        name = file.relative_to(root).as_posix()
        if not file.resolve().is_relative_to(root):
            raise Refused(file=name, rule="it is a link out of the folder", remedy="Put the file itself there.")
        if file.is_file():
            sizes[name] = file.stat().st_size
        if len(sizes) > _MAX_FILES:
            raise Refused(
                file=folder.name, rule=f"it has over {_MAX_FILES} files", remedy="Name the model's own folder."
            )
    chosen, notes = choose_files(sizes, inside, folder.name)
    files = tuple(
        PlannedFile(name, (Part(Local(str(root / name), sizes[name]), (), "", sizes[name]),), "", sizes[name])
        for name in chosen
    )
    return files, notes


def _id(name: str) -> str:
    return name.lower()
