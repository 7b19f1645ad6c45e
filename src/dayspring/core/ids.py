"""Identifiers: a prefix that says what it names, then 26 characters that sort by time (Crockford base 32).

48 bits of Unix milliseconds and 80 random bits, as ULID lays them out (github.com/ulid/spec). Ids made by one process
sort in the order they were made, within a millisecond too: the next is then the last plus a random step. Not a secret:
keys have their own generator in `accounts`.
"""

import secrets
import threading
import time

__all__ = ["new_id"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_STEP_BITS = 64
"""Of a step within a millisecond: too many for a neighbour to be guessed, few enough to stay within it (2^16 steps)."""
_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """A fresh id such as `req_01jd...`; `prefix` comes without its underscore."""
    global _last
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last >> 80:
            _last = now << 80 | secrets.randbits(80)
        else:
            _last += 1 + secrets.randbits(_STEP_BITS)
        value = _last
    pairs = [_PAIRS[(value >> shift) & 0x3FF] for shift in range(120, -1, -10)]
    return f"{prefix}_{''.join(pairs)}"
