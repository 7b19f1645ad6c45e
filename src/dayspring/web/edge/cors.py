"""Which web pages may call the API from a browser: none, unless the operator names their origins.

What holds: an origin is compared whole; no wildcard, and no credentials of the browser: a page sends its own key.
"""

from collections.abc import Sequence

__all__ = ["Cors"]

Header = tuple[bytes, bytes]

_METHODS = b"GET, POST, PUT, PATCH, DELETE"
_EXPOSED = (
    b"x-request-id, retry-after, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, "
    b"x-ratelimit-reset-tokens"
)
_VARY: Header = (b"vary", b"Origin")
_SECONDS = b"600"
_LONGEST_HEADERS = 1024


class Cors:
    """`origins`: exactly as browsers send them."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._answers = {
            origin.encode("ascii"): (
                (b"access-control-allow-origin", origin.encode("ascii")),
                (b"access-control-expose-headers", _EXPOSED),
                _VARY,
            )
            for origin in origins
        }

    def __bool__(self) -> bool:
        return bool(self._answers)

    def headers(self, origin: bytes) -> tuple[Header, ...]:
        """What to add to an answer to a page of this origin."""
        return self._answers.get(origin, (_VARY,))

    def preflight(self, origin: bytes, asked_headers: bytes) -> list[Header] | None:
        """The answer to a browser's question beforehand; None when the origin is not one of ours."""
        if origin not in self._answers:
            return None
        return [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", asked_headers[:_LONGEST_HEADERS]),
            (b"access-control-max-age", _SECONDS),
            (b"content-length", b"0"),
        ]
