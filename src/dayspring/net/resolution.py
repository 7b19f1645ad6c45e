"""Names to checked addresses, and the last check before a socket is made.

What holds: a name is refused when any of its addresses is out of bounds; the connection is made to an address that was
checked, and the socket's own address is checked once more, so that no second look-up and no reader in between can
change where it goes.
What it does not do: check the operator's own proxies. They connect in our place, and are the guard there.
"""

import asyncio
import socket
from typing import Any
from urllib.request import getproxies, proxy_bypass

from aiohttp import BasicAuth
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from dayspring.core.errors import Refused
from dayspring.net.addresses import address_is_public, check_address

__all__ = ["CheckedResolver", "Proxy", "proxy_for"]

_PROXIED_LOOKUP_S = 3.0

Proxy = tuple[URL, BasicAuth | None]


def proxy_for(url: URL) -> Proxy | None:
    """The proxy that the environment names for this address, with its password apart."""
    proxy = _proxies().get(url.scheme)
    if proxy is None or proxy_bypass(url.raw_host or ""):
        return None
    login = BasicAuth(proxy.user, proxy.password or "") if proxy.user else None
    return proxy.with_user(None), login


class CheckedResolver(AbstractResolver):
    """What aiohttp asks for addresses; `socket` is what it makes its sockets with."""

    def __init__(self, *, private: bool, allow_loopback: bool) -> None:
        self.private_names: set[str] = set()
        self._inner = ThreadedResolver()
        self._bounds = {"private": private, "allow_loopback": allow_loopback}
        self._proxies = {proxy.raw_host or "" for proxy in _proxies().values()}
        self._proxy_addresses = set(self._proxies)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        for entry in found:
            if host in self._proxies:
                self._proxy_addresses.add(entry["host"])
                continue
            check_address(entry["host"], host, **self._bounds)
            if not address_is_public(entry["host"]):
                self.private_names.add(host)
        return found

    async def check_proxied(self, host: str) -> None:
        """Refuses a name that is known here to lead into a private network, though the proxy would look it up.

        A name that only the proxy can resolve passes.
        """
        try:
            async with asyncio.timeout(_PROXIED_LOOKUP_S):
                await self.resolve(host)
        except Refused:
            raise
        except OSError:  # TimeoutError among them
            return

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one address, as `getaddrinfo` has it. Raises Refused."""
        family, kind, protocol, _, place = info
        if place[0] not in self._proxy_addresses:
            check_address(place[0], place[0], **self._bounds)
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        await self._inner.close()


def _proxies() -> dict[str, URL]:
    """The environment's proxies by the scheme they are for."""
    named = ((scheme, text) for scheme, text in getproxies().items() if scheme in ("http", "https") and text)
    return {scheme: URL(text if "://" in text else f"http://{text}") for scheme, text in named}
