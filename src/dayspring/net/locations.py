"""A URL read once, by the reader that also connects: what is checked is what is reached.

What holds: no name or password, no character that two readers could take differently, no number that is an address in
disguise; HTTPS, or HTTP where the caller may; a port that speaks HTTP.
"""

import ipaddress
import re

from yarl import URL

from dayspring.core.errors import Refused
from dayspring.net.addresses import check_address, private_refusal

__all__ = ["bare", "host_of", "location", "origin", "redirected"]

MAX_URL_CHARACTERS = 8192

_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\]")
"""Control characters, spaces and backslashes: browsers, Python and C read them each in their own way."""
_NAME = re.compile(r"(?=.{1,253}\.?\Z)[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)")
"""As the URL standard has it: a host whose last label looks so is an IPv4 address (url.spec.whatwg.org, 3.5)."""
_LOCAL = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain")
_WELL_KNOWN = 1024
_OTHER_PROTOCOLS = frozenset({1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6379, 6566, 6679, 6697,
                              10080, 11211, *range(6665, 6670)})  # fmt: skip
"""The Fetch standard's blocked ports above 1023, and two databases that read HTTP as commands."""


def location(text: str, *, private: bool = False, allow_loopback: bool = False) -> URL:
    """The URL, checked. Raises Refused. An address in it is checked too; a name's addresses are not known yet."""
    if len(text) > MAX_URL_CHARACTERS or _AMBIGUOUS.search(text):
        raise _refused(text, "the address is too long, or has a space, a backslash or a control character in it")
    try:
        url = URL(text)
    except ValueError:
        raise _refused(text, "the address cannot be read") from None
    if "@" in url.raw_authority or "@" in re.split(r"[/?#]", text.partition("//")[2])[0]:
        raise _refused(text, "the address has a name or password in it", "Put secrets in settings.")
    trusted = private or allow_loopback
    if url.scheme != "https" and not (url.scheme == "http" and trusted):
        raise _refused(text, "it is not fetched over HTTPS", "Use an https:// address.")
    host = (url.raw_host or "").lower()
    _check_port(url, text, trusted=trusted)
    literal = _literal(host, text)
    if literal:
        check_address(literal, host, private=private, allow_loopback=allow_loopback)
    elif not _NAME.fullmatch(host):
        raise _refused(text, "the address has no host, or one that is no name")
    elif not trusted and any(f".{host.rstrip('.')}".endswith(f".{suffix}") for suffix in _LOCAL):
        raise private_refusal(host)
    return url


def redirected(url: URL, place: str, *, private: bool, allow_loopback: bool) -> URL:
    """Where a redirect from `url` goes, checked like any other address."""
    if len(place) > MAX_URL_CHARACTERS or _AMBIGUOUS.search(place):
        raise _refused(str(url), "it redirects to an address that cannot be read")
    try:
        joined = url.join(URL(place))
    except ValueError:
        raise _refused(str(url), "it redirects to an address that cannot be read") from None
    return location(str(joined.with_fragment(None)), private=private, allow_loopback=allow_loopback)


def origin(url: URL) -> tuple[str, str, int]:
    """Scheme, host and port: what a secret belongs to."""
    return url.scheme, (url.raw_host or "").lower().rstrip("."), url.port or 0


def host_of(url: str) -> str:
    """The host in an address, for a sentence; the address itself where there is none."""
    try:
        return URL(url).raw_host or url
    except ValueError:
        return "the address"


def bare(url: str) -> str:
    """The address without a name, password, query or fragment: those may be secrets."""
    try:
        return str(URL(url).with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        return "the address"


def _check_port(url: URL, text: str, *, trusted: bool) -> None:
    port = url.port or 0
    known = port in (80, 443) or (port >= _WELL_KNOWN and port not in _OTHER_PROTOCOLS)
    if not port or not (known or trusted):
        raise _refused(text, f"port {port} is not one that files are served from", "Use port 443.")


def _literal(host: str, text: str) -> str:
    """The host when it is an IP address, else empty. Raises Refused for another spelling of one."""
    if ":" in host:
        if "%" in host:
            raise private_refusal(host)
        return host
    labels = host.removesuffix(".").split(".")
    if not _NUMBER.fullmatch(labels[-1]):
        return ""
    try:
        if len(labels) == 4 and not host.endswith("."):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        pass
    raise _refused(text, "its host is a number that is not written as an address", "Write it as four numbers.")


def _refused(text: str, rule: str, remedy: str = "Check the address.") -> Refused:
    return Refused(file=bare(text)[:200], rule=rule, remedy=remedy)
