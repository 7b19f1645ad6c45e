"""The one way out: HTTP to places that are not trusted.

What holds: a name is resolved, every address is checked, and the connection goes to a checked address (no second
look-up); each redirect is a new request under the same rules; a secret header goes to its own host only; every answer
is bounded in size and in time from the first look-up to the last byte, however slowly it drips; nothing is
decompressed; no cookie, and no password of the machine's own files, is ever sent.
What it does not do: follow a redirect of a POST. Resolve names for the operator's addresses behind a proxy: there the
proxy of the environment connects, and is the guard; addresses and local names are still refused here.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from dayspring.core.errors import DayspringError, Refused, Unavailable
from dayspring.net.addresses import address_is_public
from dayspring.net.answers import Answer, Reply, broken, check_status
from dayspring.net.locations import bare, host_of, location, origin, redirected
from dayspring.net.resolution import CheckedResolver, proxy_for

__all__ = ["Fetcher", "Request"]

MAX_REDIRECTS = 8
REPLY_BYTES = 4 << 20
REPLY_S = 30.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NEVER_SENT = frozenset({"host", "content-length", "transfer-encoding", "connection", "proxy-authorization"})
"""Headers that are the connection's own: set by whoever asks, they could part what is checked from what is reached."""


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to get, or one place to post to."""

    url: str
    headers: dict[str, str] = {}
    secret_headers: dict[str, str] = {}
    """Sent to the host of `url` only, never after a redirect to another."""
    operator: bool = False
    """The address was set by the operator (an index, a mirror): it may be in a private network, over plain HTTP."""
    allow_missing: bool = False
    """Give a 404 back rather than raise."""


class Fetcher:
    """`allow_loopback` is for tests and closed networks: it lets any request reach this machine.

    stall_s: longest silence of a server. whole_s: longest time of one `open`, its redirects and body included.
    """

    def __init__(self, *, allow_loopback: bool = False, stall_s: float = 60, whole_s: float = 6 * 3600) -> None:
        self._allow_loopback = allow_loopback
        self._stall_s = stall_s
        self._whole_s = whole_s
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._resolvers: dict[bool, CheckedResolver] = {}
        self._certificates = ""

    def trust_certificates(self, file: str) -> None:
        """Trust the authorities in this file besides the system's. For the next connections only."""
        self._certificates = file

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Answer]:
        """The final answer, after redirects. Raises Refused, Unavailable, NotFound, PermissionDenied, Busy."""
        async with self._opened(request, self._whole_s) as answer:
            if not (answer.status == 404 and request.allow_missing):
                check_status(answer, request.url)
            yield answer

    async def get(self, request: Request, *, limit_bytes: int = REPLY_BYTES, timeout_s: float = REPLY_S) -> Reply:
        """The whole answer of a GET, after redirects. Raises as `open` does."""
        try:
            async with asyncio.timeout(timeout_s), self._opened(request, timeout_s) as answer:
                if not (answer.status == 404 and request.allow_missing):
                    check_status(answer, request.url)
                return await _whole(answer, limit_bytes)
        except TimeoutError:
            raise _slow(request.url, timeout_s) from None

    async def post(
        self,
        request: Request,
        *,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        body: bytes = b"",
        limit_bytes: int = REPLY_BYTES,
        timeout_s: float = REPLY_S,
    ) -> Reply:
        """The whole answer of a POST, whatever its status; `body` is sent as it is, with the caller's Content-Type.

        Raises Refused for an address out of bounds or a redirect, Unavailable when no answer came in time.
        """
        kind = {}
        if json is not None:
            body, kind = msgspec.json.encode(json), {"Content-Type": "application/json"}
        elif form is not None:
            body, kind = urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        asked = msgspec.structs.replace(request, headers={**kind, **request.headers})
        try:
            async with asyncio.timeout(timeout_s), self._opened(asked, timeout_s, "POST", body) as answer:
                return await _whole(answer, limit_bytes)
        except TimeoutError:
            raise _slow(request.url, timeout_s) from None

    @asynccontextmanager
    async def _opened(
        self, request: Request, whole_s: float, method: Literal["GET", "POST"] = "GET", body: bytes = b""
    ) -> AsyncIterator[Answer]:
        ends = asyncio.get_running_loop().time() + whole_s
        answer = await self._answer(request, method, body, ends)
        try:
            yield answer
        finally:
            answer.close()

    async def _answer(self, request: Request, method: str, body: bytes, ends: float) -> Answer:
        """Follows redirects until an answer that is none; its body is still to come."""
        private, hops = request.operator, list[aiohttp.ClientResponse]()
        first = url = location(request.url, private=private, allow_loopback=self._allow_loopback)
        while True:
            secret = request.secret_headers if origin(url) == origin(first) else {}
            response = await self._send(method, url, {**request.headers, **secret}, body, private=private, ends=ends)
            if not hops:
                private = private and self._is_private(url.raw_host or "")
            if response.status not in _REDIRECTS:
                return Answer(response, hops, private=private)
            response.close()  # not released: its body may have no end
            hops.append(response)
            if method == "POST":
                raise Refused(file=bare(str(url)), rule="it redirects a POST", remedy="Use the final address.")
            if len(hops) > MAX_REDIRECTS or "Location" not in response.headers:
                raise Refused(file=bare(request.url), rule="it redirects without end", remedy="Check the address.")
            place = response.headers["Location"]
            url = redirected(url, place, private=private, allow_loopback=self._allow_loopback)

    async def _send(
        self, method: str, url: URL, headers: dict[str, str], body: bytes, *, private: bool, ends: float
    ) -> aiohttp.ClientResponse:
        session = self._session(private=private)
        proxy, login = proxy_for(url) or (None, None)
        left_s = max(0.001, ends - asyncio.get_running_loop().time())
        try:
            if proxy is not None and not private and not _is_address(url):
                await self._resolvers[private].check_proxied(url.raw_host or "")
            return await session.request(
                method,
                url,
                headers={name: value for name, value in headers.items() if name.lower() not in _NEVER_SENT},
                data=body or None,
                allow_redirects=False,
                proxy=proxy,
                proxy_auth=login,
                timeout=aiohttp.ClientTimeout(total=left_s, sock_connect=20, sock_read=self._stall_s),
            )
        except DayspringError:
            raise
        except (aiohttp.ClientError, ValueError, OSError):
            raise broken(str(url)) from None

    def _session(self, *, private: bool) -> aiohttp.ClientSession:
        if private not in self._sessions:
            context = ssl.create_default_context()
            for file in (self._certificates, os.environ.get("REQUESTS_CA_BUNDLE", "")):
                if file and os.path.isfile(file):  # noqa: PTH113 - a text from the environment
                    context.load_verify_locations(file)
            resolver = CheckedResolver(private=private, allow_loopback=self._allow_loopback)
            self._resolvers[private] = resolver
            connector = aiohttp.TCPConnector(
                resolver=resolver, socket_factory=resolver.socket, use_dns_cache=False, ssl=context, limit=16
            )
            self._sessions[private] = aiohttp.ClientSession(
                connector=connector,
                trust_env=False,  # it would send what ~/.netrc has for a host that a stranger named
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": "dayspring", "Accept-Encoding": "identity"},
            )
        return self._sessions[private]

    def _is_private(self, host: str) -> bool:
        """Whether the operator's host, just connected to, is in a private network."""
        try:
            return not address_is_public(host)
        except ValueError:
            resolver = self._resolvers.get(True)
            return resolver is not None and host in resolver.private_names


def _is_address(url: URL) -> bool:
    try:
        address_is_public(url.raw_host or "")
    except ValueError:
        return False
    return True


async def _whole(answer: Answer, limit_bytes: int) -> Reply:
    body = await answer.document(limit_bytes)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Reply(answer.status, answer.url, headers, body)


def _slow(url: str, timeout_s: float) -> Unavailable:
    return Unavailable(
        f"{host_of(url)} did not answer within {timeout_s:g} s", "Try again later, or check the address."
    )
