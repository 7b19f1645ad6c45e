"""Gathering the packages of a bundle: Dayspring's own wheel, every dependency's, and pip itself.

What holds: wheels only, so nothing is built or run on the way or at the installation; the versions are those installed
here, which are the ones this installation was seen to work with, unless newer ones are asked for.
"""

import asyncio
import hashlib
import re
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

import msgspec

from dayspring.core.errors import Refused
from dayspring.hub.bundle.own_wheel import own_wheel
from dayspring.hub.bundle.pip import run_pip

__all__ = ["Target", "gather"]


class Target(msgspec.Struct, frozen=True):
    """What the bundle is for; empty: a machine like this one."""

    python: str = ""
    """`3.12`."""
    platforms: tuple[str, ...] = ()
    """Tags as pip takes them, e.g. `manylinux_2_28_aarch64`."""
    extras: tuple[str, ...] = ()
    newest: bool = False
    """The newest versions that fit, in place of those installed here."""

    @property
    def python_version(self) -> str:
        return self.python or f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def platform(self) -> str:
        return ", ".join(self.platforms) or sysconfig.get_platform()

    def options(self) -> list[str]:
        """For pip."""
        named = [f"--platform={tag}" for tag in self.platforms]
        if self.python or self.platforms:
            named += [f"--python-version={self.python_version}", "--implementation=cp"]
        return named


async def gather(folder: Path, target: Target) -> tuple[str, ...]:
    """Puts the wheels into the folder; what to require of them, with hashes, Dayspring last."""
    own = await own_wheel(folder)
    held = folder / "constraints.txt"
    held.write_text("" if target.newest else _installed(own.name), "utf-8")
    extras = f"[{','.join(sorted(target.extras))}]" if target.extras else ""
    await run_pip(
        "download", "--quiet", "--only-binary=:all:", f"--dest={folder}", f"--constraint={held}", *target.options(),
        f"{own}{extras}", "pip",
    )  # fmt: skip
    held.unlink()
    return await asyncio.to_thread(_requirements, folder, own, extras)


def _requirements(folder: Path, own: Path, extras: str) -> tuple[str, ...]:
    wheels = sorted(file for file in folder.iterdir() if file != own)
    return (*(_requirement(wheel, "") for wheel in wheels), _requirement(own, extras))


def _installed(own: str) -> str:
    """`name==version` of every package here but Dayspring, whose wheel is given, and pip, whose version is its own."""
    left_out = {_normal(own.partition("-")[0]), "pip"}
    pairs = {_normal(each.name): each.version for each in distributions() if each.name}
    return "".join(f"{name}=={version}\n" for name, version in sorted(pairs.items()) if name not in left_out)


def _requirement(wheel: Path, extras: str) -> str:
    parts = wheel.name.split("-")
    if wheel.suffix != ".whl" or len(parts) not in (5, 6):
        raise Refused(file=wheel.name, rule="it is no wheel", remedy="Offer a wheel of it on the index.")
    with wheel.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{_normal(parts[0])}{extras}=={parts[1]} --hash=sha256:{digest}"


def _normal(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
