"""Secrets handed to people: a prefix that says what it is, and 43 characters (256 random bits), kept as a digest.

As for API keys (`accounts.keys`): the first characters are kept in clear and find the row; what is left secret is over
180 bits, so a fast digest is enough. Digests are compared in constant time, by `matches`.
"""

import base64
import hashlib
import hmac
import re
import secrets

__all__ = ["INVITE", "RESET", "SESSION", "digest_of", "is_token", "matches", "new_token", "prefix_of"]

SESSION, RESET, INVITE = "dss-", "dsr-", "dsi-"

_FORM = re.compile(r"ds[sri]-[A-Za-z0-9_-]{43}")


def new_token(kind: str) -> str:
    """A fresh secret of that kind."""
    return kind + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def is_token(text: str, kind: str) -> bool:
    """Whether it has the form of one."""
    return text.startswith(kind) and _FORM.fullmatch(text) is not None


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def prefix_of(token: str) -> str:
    return token[:14]


def matches(token: str, digest: bytes) -> bool:
    return hmac.compare_digest(bytes(digest), digest_of(token))
