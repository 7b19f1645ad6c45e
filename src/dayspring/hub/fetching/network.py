"""Fetching over HTTP from places that are not trusted.

What holds: a name is resolved, every address is checked, and the connection goes to a checked address (no second
look-up); each redirect is a new request under the same rules; a secret header goes to its own host only; every answer
is bounded in size and time.
What it does not do: resolve names for itself behind a proxy. There the proxy of the operator's environment connects,
and is the guard; addresses and local names are still refused here.
"""

import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from dayspring.core.errors import Busy, DayspringError, NotFound, PermissionDenied, Refused, Unavailable

__all__ = ["Answer", "Fetcher", "Request", "address_is_public", "host_of"]

MAX_REDIRECTS = 8
MAX_DOCUMENT_BYTES = 64 << 20
_READ_BYTES = 1 << 18


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to get."""

    url: str
    headers: dict[str, str] = {}
    secret_headers: dict[str, str] = {}
    """Sent to the host of `url` only, never after a redirect to another."""
    operator: bool = False
    """The address was set by the operator (an index, a mirror): it may be in a private network, over plain HTTP."""
    allow_missing: bool = False
    """Give a 404 back rather than raise."""


class Answer:
    """An open answer. `hops` are the redirect answers on the way, oldest first."""

    def __init__(self, response: aiohttp.ClientResponse, hops: list[aiohttp.ClientResponse], *, private: bool) -> None:
        self._response = response
        self.status = response.status
        self.headers = response.headers
        self.url = str(response.url)
        self.private = private
        """The operator's host is in a private network, so what it points at may be there too."""
        self.hops = hops

    def header(self, name: str) -> str:
        """The header of the first answer that has it: a hub says what a file is before it redirects to where."""
        return next((hop.headers[name] for hop in (*self.hops, self._response) if name in hop.headers), "")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises Unavailable when it ends early or stalls."""
        try:
            async for chunk in self._response.content.iter_chunked(_READ_BYTES):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise _broken(self.url) from None

    async def document(self, limit_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The whole body. Raises Refused over the limit."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit_bytes:
                raise Refused(
                    file=self.url, rule=f"the answer is over {limit_bytes} bytes", remedy="Check the address."
                )
        return bytes(body)


class Fetcher:
    """The one way out. `allow_loopback` is for tests and closed networks: it lets any request reach this machine."""

    def __init__(self, *, allow_loopback: bool = False, stall_s: float = 60, whole_s: float = 6 * 3600) -> None:
        self._allow_loopback = allow_loopback
        self._timeout = aiohttp.ClientTimeout(total=whole_s, sock_connect=20, sock_read=stall_s)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._resolvers: dict[bool, _CheckedResolver] = {}
        self._certificates = ""

    def trust_certificates(self, file: str) -> None:
        """Trust the authorities in this file besides the system's. For the next connections only."""
        self._certificates = file

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _session(self, *, private: bool) -> aiohttp.ClientSession:
        if private not in self._sessions:
            context = ssl.create_default_context()
            for file in (self._certificates, os.environ.get("REQUESTS_CA_BUNDLE", "")):
                if file and os.path.isfile(file):  # noqa: PTH113 - a text from the environment
                    context.load_verify_locations(file)
            resolver = _CheckedResolver(private=private, allow_loopback=self._allow_loopback)
            self._resolvers[private] = resolver
            connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, ssl=context, limit=16)
            self._sessions[private] = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                trust_env=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": "dayspring", "Accept-Encoding": "identity"},
            )
        return self._sessions[private]

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Answer]:
        """The final answer, after redirects. Raises Refused, Unavailable, NotFound, PermissionDenied, Busy."""
        url, private, hops = request.url, request.operator, list[aiohttp.ClientResponse]()
        try:
            while True:
                secret = request.secret_headers if _origin(url) == _origin(request.url) else {}
                response = await self._get(url, {**request.headers, **secret}, private=private)
                if not hops:
                    private = private and self._is_private(host_of(url))
                if response.status not in (301, 302, 303, 307, 308):
                    break
                response.release()
                hops.append(response)
                if len(hops) > MAX_REDIRECTS or "Location" not in response.headers:
                    raise Refused(file=request.url, rule="it redirects without end", remedy="Check the address.")
                url = urljoin(url, response.headers["Location"])
            with_body = Answer(response, hops, private=private)
            if not (response.status == 404 and request.allow_missing):
                _check_status(with_body, request.url)
            try:
                yield with_body
            finally:
                response.close()
        except DayspringError:
            raise
        except (aiohttp.ClientError, ValueError, OSError):
            raise _broken(url) from None

    def _is_private(self, host: str) -> bool:
        """Whether the operator's host, just connected to, is in a private network."""
        try:
            return not address_is_public(host)
        except ValueError:
            resolver = self._resolvers.get(True)
            return resolver is not None and host in resolver.private_names

    async def _get(self, url: str, headers: dict[str, str], *, private: bool) -> aiohttp.ClientResponse:
        _check_url(url, private=private, allow_loopback=self._allow_loopback)
        return await self._session(private=private).get(url, headers=headers, allow_redirects=False)


class _CheckedResolver(AbstractResolver):
    """Resolves a name and refuses it when any of its addresses is out of bounds. aiohttp connects to what it returns.

    The environment's proxies are the operator's own and are not checked.
    """

    def __init__(self, *, private: bool, allow_loopback: bool) -> None:
        self.private_names: set[str] = set()
        self._inner = ThreadedResolver()
        self._proxies = {urlsplit(proxy).hostname for proxy in getproxies().values()}
        self._private = private
        self._allow_loopback = allow_loopback

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for entry in found if host not in self._proxies else ():
            _check_address(entry["host"], host, private=self._private, allow_loopback=self._allow_loopback)
            if not address_is_public(entry["host"]):
                self.private_names.add(host)
        return found

    async def close(self) -> None:
        await self._inner.close()


def _check_url(url: str, *, private: bool, allow_loopback: bool) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.username or parts.password:
        raise Refused(
            file=_bare(url), rule="the address has a name or password in it", remedy="Put secrets in settings."
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and (private or allow_loopback)):
        raise Refused(file=_bare(url), rule="it is not fetched over HTTPS", remedy="Use an https:// address.")
    if not host or (host.endswith(("localhost", ".local", ".internal")) and not (private or allow_loopback)):
        raise _private_refusal(host)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return
    # aiohttp does not ask its resolver about a literal address.
    _check_address(host, host, private=private, allow_loopback=allow_loopback)


def _check_address(address: str, host: str, *, private: bool, allow_loopback: bool) -> None:
    ip = _innermost(ipaddress.ip_address(address.split("%", 1)[0]))
    if ip.is_loopback and (allow_loopback or private):
        return
    # Link-local addresses hold the metadata services of cloud machines: nobody fetches a model there.
    never = ip.is_link_local or ip.is_multicast or ip.is_unspecified or str(ip) == "fd00:ec2::254"
    if never or not (private or address_is_public(address)):
        raise _private_refusal(host)


def _innermost(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address inside a mapped, 6to4, Teredo or NAT64 one: that is where the packets end."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    return ip


def address_is_public(address: str) -> bool:
    """Whether an address, or the one embedded in it, is of the public internet."""
    ip = _innermost(ipaddress.ip_address(address.split("%", 1)[0]))
    return ip.is_global and not ip.is_multicast


def _private_refusal(host: str) -> Refused:
    return Refused(
        file=host or "the address",
        rule="it is inside a private network or on this machine",
        remedy="Fetch the file yourself and add it as file:/path.",
    )


def _check_status(answer: Answer, url: str) -> None:
    status, host = answer.status, host_of(url)
    if status in (200, 206):
        return
    if status == 416:
        raise Unavailable(f"{host} has no such part of the file", "Try again: it starts afresh.")
    if status in (401, 403, 407):
        raise PermissionDenied(f"{host} does not let us have {_bare(url)!r}", "Check the key or token for it.")
    if status in (404, 410):
        raise NotFound("file", _bare(url), "Check the name and the version.")
    if status == 429:
        wait = answer.headers.get("Retry-After", "")
        raise Busy(f"{host} asks for patience", retry_after_s=float(wait) if wait.isdigit() else 60)
    raise Unavailable(f"{host} answered with status {status}", "Try again later.", retry_after_s=30)


def _broken(url: str) -> Unavailable:
    return Unavailable(
        f"The connection to {host_of(url)} failed",
        "Check the network, the proxy and the certificate settings, then try again: what was fetched is kept.",
        retry_after_s=5,
    )


def host_of(url: str) -> str:
    return urlsplit(url).hostname or url


def _bare(url: str) -> str:
    """The address without a name, password or query: those may be secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
