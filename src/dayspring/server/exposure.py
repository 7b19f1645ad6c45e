"""Whether the server may be reached as the settings say: what would send keys in clear text is refused at the start.

What holds: authentication cannot be switched off, so there is no setting for it to check here; an address that other
machines reach is bound with TLS, behind a named reverse proxy, or because the operator says that the network is its
own.
"""

import ipaddress

from dayspring.core.errors import PermissionDenied
from dayspring.core.settings import Settings
from dayspring.web.edge.hosts import is_loopback

__all__ = ["check_exposure", "notes"]


def check_exposure(settings: Settings) -> None:
    """Raises PermissionDenied for an unsafe public bind, with what to do."""
    public = not is_loopback(settings.host)
    if public and not (settings.tls_cert or settings.trusted_proxies or settings.allow_plain_http):
        raise PermissionDenied(
            f"Binding {settings.host} would let other machines send their keys in clear text",
            "Give a certificate with --tls-cert and --tls-key; or name the reverse proxy that has one in "
            "DAYSPRING_TRUSTED_PROXIES; or, on a network of its own such as a container's, set "
            "DAYSPRING_ALLOW_PLAIN_HTTP=true.",
        )
    networks = (ipaddress.ip_network(entry, strict=False) for entry in settings.trusted_proxies)
    everyone = next((network for network in networks if network.prefixlen == 0), None)
    if everyone is not None:
        raise PermissionDenied(
            f"DAYSPRING_TRUSTED_PROXIES={everyone} would believe every client what it says of its address",
            "Name the proxy's own address or network.",
        )
    if public and settings.metrics_public and not settings.tls_cert and not settings.allow_plain_http:
        raise PermissionDenied(
            "DAYSPRING_METRICS_PUBLIC=true would show models, counts and money to whoever reaches the proxy",
            "Leave it off and scrape from this machine; or, where the proxy keeps /metrics to itself, set "
            "DAYSPRING_ALLOW_PLAIN_HTTP=true as well.",
        )


def notes(settings: Settings) -> list[str]:
    """What the operator should know of the address that is bound."""
    if is_loopback(settings.host):
        return []
    if settings.tls_cert:
        return ["other machines can reach this address, over TLS."]
    if settings.allow_plain_http:
        return ["other machines can reach this address, and keys travel in clear text."]
    return ["the trusted proxies alone can reach this address."]
