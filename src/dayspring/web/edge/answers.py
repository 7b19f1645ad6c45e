"""What every answer says to a browser, whatever route it came from: made once, appended at no cost.

Headers that a route sets itself are kept: its own Content-Security-Policy, its own Cache-Control.
"""

__all__ = ["security_headers"]

Header = tuple[bytes, bytes]

_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICY: Header = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
"""For whatever a browser might take for a page though it is none; a page brings its own."""
_NO_STORE: Header = (b"cache-control", b"no-store")
_HSTS: Header = (b"strict-transport-security", b"max-age=31536000")

_SETS: dict[tuple[bool, bool, bool, bool], tuple[Header, ...]] = {
    (tls, private, policy, cached): (
        *_ALWAYS,
        *((_HSTS,) if tls else ()),
        *((_POLICY,) if not policy else ()),
        *((_NO_STORE,) if private and not cached else ()),
    )
    for tls in (False, True)
    for private in (False, True)
    for policy in (False, True)
    for cached in (False, True)
}


def security_headers(headers: list[Header], *, tls: bool, private: bool) -> tuple[Header, ...]:
    """What is to be added to these. private: nobody on the way may keep the answer."""
    policy = cached = False
    for name, _ in headers:
        if name == b"content-security-policy":
            policy = True
        elif name == b"cache-control":
            cached = True
    return _SETS[tls, private, policy, cached]
