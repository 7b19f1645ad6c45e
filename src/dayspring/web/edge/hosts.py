"""By which name the server may be called.

A page in a browser on this machine can make its own name point at 127.0.0.1 and then read what a loopback server
answers without a key (DNS rebinding); it cannot choose the Host header that goes with it. So a server on loopback
answers to this machine's names only. An address in digits cannot be made to point elsewhere and always passes.
"""

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["Hosts", "is_loopback"]

_LONGEST = 260
"""A name of 253 characters, and a port."""
_PORT = re.compile(r":\d{1,5}\Z")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback  # as a socket of both kinds writes IPv4


class Hosts:
    """`allowed`: names, `*.name` for everything below one. `bound`: the address or name the server listens on."""

    def __init__(self, allowed: Sequence[str], bound: str) -> None:
        self._names = {name.lower().rstrip(".") for name in allowed if not name.startswith("*.")} | {bound.lower()}
        self._below = tuple(name[1:].lower() for name in allowed if name.startswith("*."))
        self.checked = bool(allowed) or is_loopback(bound)
        """Whether anything is refused."""
        self.named = bool(allowed)
        """Whether the operator said which names there are."""
        self._known = lru_cache(maxsize=1024)(self._look_up)

    def allows(self, host: bytes) -> bool:
        """Whether the value of a Host header names this server."""
        return len(host) <= _LONGEST and self._known(host)

    def _look_up(self, host: bytes) -> bool:
        name = _PORT.sub("", host.decode("latin-1")).lower().removesuffix(".")
        if name in self._names or name == "localhost" or name.endswith((".localhost", *self._below)):
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True
