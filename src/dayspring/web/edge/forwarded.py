"""Who really calls, when a reverse proxy stands before the server.

What holds: only a peer whose address the operator named is believed, and only in the one kind of header it was said to
set; the client is the first address, counted from our side, that is not such a proxy, so a client cannot put itself
elsewhere by sending the header itself.
"""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec
from starlette.types import Scope

__all__ = ["Forwarded", "Headers"]

Headers = Sequence[tuple[bytes, bytes]]

_MAX_HOPS = 32
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_PAIR = re.compile(r'\s*([A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))\s*')
"""RFC 7239, section 4."""


class _Hop(msgspec.Struct, frozen=True):
    """What one proxy said of who called it. Empty where it did not say."""

    address: str
    scheme: str
    host: str


class Forwarded:
    """`networks`: the trusted proxies. `kind`: which headers they set."""

    def __init__(self, networks: Sequence[str], kind: Literal["x-forwarded", "forwarded"]) -> None:
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)
        self._read = _x_forwarded if kind == "x-forwarded" else _forwarded
        self.trusts = lru_cache(maxsize=4096)(self._trusts)
        """Whether the peer with this address is one of the proxies."""

    def __bool__(self) -> bool:
        return bool(self._networks)

    def apply(self, scope: Scope) -> None:
        """Puts the client's own address, scheme and host into the scope, when a trusted proxy sent the request."""
        client = scope.get("client")
        if client is None or not self.trusts(client[0]):
            return
        hops = self._read(scope["headers"])[-_MAX_HOPS:]
        if not hops:
            return
        nearest = hops[-1]
        for hop in reversed(hops):
            if not hop.address:
                break
            nearest = hop
            if not self.trusts(hop.address):
                break
        if nearest.address:
            scope["client"] = (nearest.address, 0)
        if nearest.scheme:
            scope["scheme"] = nearest.scheme
        if nearest.host:
            named = (b"host", nearest.host.encode("ascii"))
            scope["headers"] = [named, *(header for header in scope["headers"] if header[0] != b"host")]

    def _trusts(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(ip, "ipv4_mapped", None) or ip
        return any(mapped in network for network in self._networks)


def _x_forwarded(headers: Headers) -> list[_Hop]:
    """The hops, the farthest first. A proxy that sets one value for all of them means the nearest client."""
    said: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name.startswith(b"x-forwarded-"):
            said.setdefault(name, []).append(value)
    if not said:
        return []
    addresses = _values(said, b"x-forwarded-for")
    count = max(1, len(addresses))
    schemes = _aligned(_values(said, b"x-forwarded-proto"), count)
    hosts = _aligned(_values(said, b"x-forwarded-host"), count)
    hops = zip(addresses or [""], schemes, hosts, strict=True)
    return [_Hop(_address(address), _scheme(scheme), _name(host)) for address, scheme, host in hops]


def _values(said: dict[bytes, list[bytes]], name: bytes) -> list[str]:
    """The comma-separated values of a header, of all its lines, the nearest proxy's last."""
    return [value.strip() for value in b",".join(said[name]).decode("latin-1").split(",")] if name in said else []


def _aligned(values: list[str], count: int) -> list[str]:
    """One value for each hop: where there are fewer, the last known of those nearer to us stands for the farther."""
    if not values:
        return [""] * count
    return [values[0]] * (count - len(values)) + values[-count:]


def _forwarded(headers: Headers) -> list[_Hop]:
    hops = []
    for element in _elements(b",".join(value for name, value in headers if name == b"forwarded").decode("latin-1")):
        said = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in _PAIR.findall(element)}
        hops.append(_Hop(_address(said.get("for", "")), _scheme(said.get("proto", "")), _name(said.get("host", ""))))
    return hops


def _elements(line: str) -> list[str]:
    """Split at commas that are outside of quotes."""
    return [part for part in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', line) if part.strip()]


def _address(text: str) -> str:
    """The IP address in `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1` or `[2001:db8::1]:80`; empty for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _scheme(text: str) -> str:
    return text.lower() if text.lower() in ("http", "https") else ""


def _name(text: str) -> str:
    return text if _HOST.fullmatch(text) else ""
