"""Identifiers: a prefix that says what it names, then 26 characters that sort by time (Crockford base 32).

48 bits of Unix milliseconds and 80 random bits, as ULID lays them out (github.com/ulid/spec). Not a secret: keys have
their own generator in `accounts`.
"""

import secrets
import time

__all__ = ["new_id"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def new_id(prefix: str) -> str:
    """A fresh id such as `req_01jd...`; `prefix` comes without its underscore."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    pairs = [_PAIRS[(value >> shift) & 0x3FF] for shift in range(120, -1, -10)]
    return f"{prefix}_{''.join(pairs)}"
