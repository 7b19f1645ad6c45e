"""Reading a model's address as the operator writes it.

    pypi:NAME==VERSION#path/in/wheel          npm:[@scope/]name@version#path/in/package
    hf:owner/name[@revision][#file]           modelscope:owner/name[@revision][#file]
    civitai:version-id[#file]                 upstream:https://host/v1#model
    https://host/file[#member]                file:/path[#member]
    bundle:/path/to/bundle[#model]

A secret has no place in an address: one with a name or password is refused.
"""

import re
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

import msgspec

from dayspring.core.errors import Malformed, Refused

__all__ = ["Address", "is_address", "is_local", "parse_address"]

Scheme = Literal["pypi", "npm", "file", "https", "hf", "modelscope", "civitai", "upstream", "bundle"]
_PYPI = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9.!+_-]{1,64})")
_HF = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w./-]{1,128}))?", re.ASCII)
_NPM = re.compile(r"((?:@[a-z0-9~][a-z0-9._~-]*/)?[a-z0-9~][a-z0-9._~-]*)@(\d+\.\d+\.\d+[A-Za-z0-9.+-]{0,64})")
_CIVITAI = re.compile(r"(?:models/)?[1-9][0-9]{0,17}")


class Address(msgspec.Struct, frozen=True):
    scheme: Scheme
    name: str
    """The package, repository, version's id, path or URL; `models/<id>` for a Civitai model's newest version."""
    revision: str = ""
    """The version, branch, tag or commit."""
    inside: str = ""
    """What follows '#': a path in the wheel or repository, or an upstream's own name for the model."""


def is_address(text: str) -> bool:
    """Whether it begins as an address does; it may be wrong further on."""
    return text.strip().partition(":")[0] in (*get_args(Scheme), "http")


def is_local(text: str) -> bool:
    """Whether it names something on this machine's disk."""
    return text.strip().partition(":")[0] in ("file", "bundle")


def parse_address(text: str) -> Address:
    """Raises Malformed with the right spelling, Refused for a secret in the address."""
    scheme, _, rest = text.strip().partition(":")
    rest, _, inside = rest.partition("#")
    inside = inside.strip("/") if scheme != "upstream" else inside
    if scheme == "pypi":
        match = _PYPI.fullmatch(rest)
        if not match:
            raise Malformed("write pypi:NAME==VERSION#path/in/wheel, with a version")
        return Address("pypi", match[1], match[2], inside)
    if scheme == "npm":
        match = _NPM.fullmatch(rest)
        if not match:
            raise Malformed("write npm:name@version#path/in/package or npm:@scope/name@version#path, with a version")
        return Address("npm", match[1], match[2], inside)
    if scheme in ("hf", "modelscope"):
        match = _HF.fullmatch(rest)
        if not match or ".." in rest:
            raise Malformed(f"write {scheme}:owner/name, {scheme}:owner/name@revision or {scheme}:owner/name#file")
        return Address(scheme, match[1], match[2] or "", inside)  # type: ignore[arg-type]  # one of the two
    if scheme == "civitai":
        if not _CIVITAI.fullmatch(rest):
            raise Malformed("write civitai:version-id or civitai:version-id#file, with the number of the version")
        return Address("civitai", rest, "", inside)
    if scheme in ("file", "bundle"):
        path = unquote(rest.removeprefix("//"))
        if not path:
            raise Malformed(f"write {scheme}:/path/to/it")
        place = str(Path(path).expanduser().absolute())
        return Address(scheme, place, "", inside)  # type: ignore[arg-type]  # one of the two
    if scheme in ("https", "http"):
        return Address("https", _web(f"{scheme}:{rest}"), "", inside)
    if scheme == "upstream":
        if not inside:
            raise Malformed("write upstream:https://host/v1#model, with the service's own name of the model")
        url = _web(rest)
        if urlsplit(url).query:
            raise Refused(file="the address", rule="an upstream's address has no query", remedy=_SECRETS)
        return Address("upstream", url.rstrip("/"), "", inside)
    starts = ", ".join(f"{name}:" for name in get_args(Scheme))
    raise Malformed(f"a source starts with {starts} or is a name of the catalogue")


_SECRETS = "Put keys in settings (DAYSPRING_UPSTREAM_KEYS, DAYSPRING_HF_TOKEN and the like), never in an address."


def _web(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise Refused(file=parts.hostname or "the address", rule="it has a name or password in it", remedy=_SECRETS)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Malformed("write a whole address, such as https://host/path")
    return url
