"""The first look at a request, before anything is read of it: from whom, to whom, under which path, how long.

One pass over the headers; nothing here waits. What holds: what is refused here has cost nothing and reached no route.
"""

import msgspec
from starlette.types import Scope

from dayspring.core.errors import Malformed, Misdirected, PermissionDenied
from dayspring.core.settings import Settings
from dayspring.web.edge.cors import Cors
from dayspring.web.edge.forwarded import Forwarded
from dayspring.web.edge.hosts import Hosts, is_loopback

__all__ = ["Entry", "Seen"]

_PROBES = ("/healthz", "/readyz")


class Seen(msgspec.Struct):
    """What the pass found. `private`: an answer for one caller, of the API."""

    length_bytes: int
    origin: bytes
    path: str
    """The route's path, without the root path."""
    private: bool
    tls: bool


class Entry:
    """`settings`: proxies, hosts, root path, origins."""

    def __init__(self, settings: Settings) -> None:
        self.cors = Cors(settings.cors_origins)
        self._forwarded = Forwarded(settings.trusted_proxies, settings.proxy_headers)
        self._hosts = Hosts(settings.allowed_hosts, settings.host)
        self._root = settings.root_path
        plain = settings.tls_cert is None and not settings.allow_plain_http and not is_loopback(settings.host)
        self._through_proxy = plain and bool(self._forwarded)
        """Whoever is not the proxy would send its key in clear text."""

    def admit(self, scope: Scope) -> Seen:
        """Completes the scope, and tells what the frame needs. Raises Malformed, Misdirected, PermissionDenied."""
        peer = scope["client"]
        if self._forwarded:
            self._forwarded.apply(scope)
        host = origin = length = b""
        for name, value in scope["headers"]:
            if name == b"host":
                if host and host != value:
                    raise Malformed("it names two hosts. Send one Host header.")
                host = value
            elif name == b"content-length":
                length = value
            elif name == b"origin":
                origin = value
        path = self._under_root(scope) if self._root else scope["path"]
        if host and self._hosts.checked and not self._hosts.allows(host):
            self._misdirected(host, peer)
        if self._through_proxy and path not in _PROBES:
            self._came_through_proxy(peer)
        if length and not length.isdigit():
            raise Malformed("its Content-Length is no number. Send the length of the body in bytes.")
        return Seen(int(length or b"0"), origin, path, path.startswith("/v1"), scope["scheme"] == "https")

    def _under_root(self, scope: Scope) -> str:
        """Puts the root path where the application expects it, whether the proxy took it off or not."""
        root, path = self._root, scope["path"]
        scope["root_path"] = root
        if path == root:
            path = root + "/"
        elif not path.startswith(root + "/"):
            path = root + path
        scope["path"] = path
        return str(path[len(root) :])

    def _misdirected(self, host: bytes, peer: tuple[str, int] | None) -> None:
        """Refuses, but for a trusted proxy where no names were given: it was asked by a name of its own."""
        if self._hosts.named or peer is None or not self._forwarded.trusts(peer[0]):
            raise Misdirected(host.decode("latin-1")[:100])

    def _came_through_proxy(self, peer: tuple[str, int] | None) -> None:
        if peer is not None and not self._forwarded.trusts(peer[0]) and not is_loopback(peer[0]):
            raise PermissionDenied(
                "This server is reached through its reverse proxy only, because it speaks plain HTTP",
                "Call the proxy's address, or set DAYSPRING_TLS_CERT or DAYSPRING_ALLOW_PLAIN_HTTP.",
            )
