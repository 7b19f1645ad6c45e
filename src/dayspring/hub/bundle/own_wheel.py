"""The wheel of this very Dayspring: built from its source tree, or put together again from what pip installed.

What holds: every installed file has the hash that its installation recorded, or there is no wheel; nothing is fetched
for an installed one. A source tree is built by pip, which may fetch the build tool.
"""

import asyncio
import base64
import hashlib
import json
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dayspring.core.errors import Refused, Unavailable
from dayspring.hub.bundle.pip import run_pip

__all__ = ["own_wheel", "repack"]

_LEFT_OUT = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
"""What installing adds beside the wheel's own files."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest a zip can hold: two wheels of one installation are alike to the byte."""


async def own_wheel(folder: Path, name: str = "dayspring") -> Path:
    """Writes it into the folder. Raises Unavailable, Refused for an installation that was changed."""
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        raise Unavailable(f"{name} is not installed, only lying there", "Install it with pip first.") from None
    root = _source_tree(installed)
    if root is None:
        return await asyncio.to_thread(repack, installed, folder)
    made = folder / "own"
    await run_pip("wheel", "--no-deps", "--quiet", "--wheel-dir", str(made), str(root))
    (wheel,) = made.glob("*.whl")
    place = wheel.replace(folder / wheel.name)
    made.rmdir()
    return place


def _source_tree(installed: Distribution) -> Path | None:
    """Where an editable installation has its source; None for an ordinary one."""
    try:
        origin = json.loads(installed.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(str(origin.get("url", ""))).path))


def repack(installed: Distribution, folder: Path) -> Path:
    """The wheel that an installation came from, as far as files go."""
    tag = next((line[5:] for line in (installed.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")), "")
    if not tag or not installed.files:
        raise Unavailable(f"The installation of {installed.name} has no record of its files", "Install it with pip.")
    place = folder / f"{installed.name.replace('-', '_')}-{installed.version}-{tag}.whl"
    record: list[str] = []
    info = ""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in sorted(installed.files, key=str):
            name = file.as_posix()
            in_info = ".dist-info/" in name
            info = name.partition("/")[0] if in_info else info
            if name.startswith(("..", "/")) or name.endswith(".pyc") or (in_info and file.name in _LEFT_OUT):
                continue
            data = _content(installed, file)
            wheel.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
            record.append(f"{name},sha256={_encoded(data)},{len(data)}")
        record.append(f"{info}/RECORD,,")
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD", _DATE), "\n".join(record) + "\n", zipfile.ZIP_DEFLATED)
    return place


def _content(installed: Distribution, file: PackagePath) -> bytes:
    """The file, as it was installed. Raises Refused when it is another by now."""
    try:
        data = Path(str(installed.locate_file(file))).read_bytes()
    except OSError:
        data = b""
    if file.hash is None or file.hash.mode != "sha256" or file.hash.value != _encoded(data):
        raise Refused(
            file=file.as_posix(),
            rule="it is not as it was installed",
            remedy=f"Install {installed.name} again, then make the bundle.",
        )
    return data


def _encoded(data: bytes) -> str:
    """SHA-256 as a wheel's RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
