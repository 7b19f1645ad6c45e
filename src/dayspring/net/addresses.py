"""Which IP addresses may be reached: where the packets end decides, not how the address is written.

What holds: an IPv4 address inside an IPv6 one is judged as itself; what is on a link, a loopback or the metadata
service of a cloud machine is never reached for a stranger, and the last not even for the operator.
"""

import ipaddress

from dayspring.core.errors import Refused

__all__ = ["address_is_public", "check_address", "private_refusal"]

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are the IPv4 address."""
_NOT_PUBLIC = (  # what the standard library of some Python 3.11 takes for public
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # RFC 8215: NAT64 inside one network
    ipaddress.IPv6Network("::/96"),  # RFC 4291: IPv4-compatible, deprecated
    ipaddress.IPv6Network("fec0::/10"),  # RFC 3879: site-local, deprecated
    ipaddress.IPv6Network("5f00::/16"),  # RFC 9602: segment routing
    ipaddress.IPv6Network("3fff::/20"),  # RFC 9637: documentation
    ipaddress.IPv4Network("192.0.0.0/24"),  # RFC 6890: protocol assignments
    ipaddress.IPv4Network("192.88.99.0/24"),  # RFC 7526: 6to4 relays, deprecated
)
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192")
)
"""Metadata services outside of the link-local range: Amazon's and Google's over IPv6, Alibaba's, Oracle's."""
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""RFC 5214: an interface identifier that begins so ends in an IPv4 address."""


def address_is_public(address: str) -> bool:
    """Whether an address, or the one embedded in it, is of the public internet. Raises ValueError for a name."""
    return _is_public(_parsed(address))


def check_address(address: str, host: str, *, private: bool, allow_loopback: bool) -> None:
    """Raises Refused for an address out of bounds. `host` is what the message names.

    private: the operator set it, so it may be in a private network. allow_loopback: this machine may be reached.
    """
    if "%" in address:
        raise private_refusal(host)  # a zone is of this machine's links
    ip = _parsed(address)
    if ip.is_loopback and (allow_loopback or private):
        return
    never = ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA
    if never or not (private or _is_public(ip)):
        raise private_refusal(host)


def private_refusal(host: str) -> Refused:
    return Refused(
        file=host or "the address",
        rule="it is inside a private network or on this machine",
        remedy="Fetch the file yourself and add it as file:/path.",
    )


def _parsed(address: str) -> _IP:
    return _innermost(ipaddress.ip_address(address.split("%", 1)[0]))


def _innermost(ip: _IP) -> _IP:
    """The IPv4 address inside a mapped, 6to4, Teredo, ISATAP or NAT64 one: that is where the packets end."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64 or (int(ip) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def _is_public(ip: _IP) -> bool:
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)
