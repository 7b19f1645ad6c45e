"""OpenAI's `x-ratelimit-*` headers, on every answer to a caller whose rate is limited, whatever its status.

They tell of the tightest of the caller's levels at the moment the answer begins.
"""

from starlette.types import Scope

from dayspring.accounts.limits import Limiter, Meter
from dayspring.accounts.principals import Principal

__all__ = ["duration", "note_caller", "rate_headers"]

_CALLER = "dayspring.limited"
"""Where in the ASGI scope a caller with limits is noted."""

_MS_NS = 1_000_000


def note_caller(scope: Scope, principal: Principal) -> None:
    """Has the answer tell the caller where it stands, if it has limits."""
    if principal.limits:
        scope[_CALLER] = principal


def rate_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Nothing for a caller without limits."""
    principal: Principal | None = scope.get(_CALLER)
    if principal is None:
        return []
    limiter: Limiter = scope["app"].state.limiter
    standing = limiter.standing(principal)
    if standing is None:
        return []
    return [*_trio("requests", standing.requests), *_trio("tokens", standing.tokens)]


def _trio(kind: str, meter: Meter | None) -> list[tuple[bytes, bytes]]:
    if meter is None:
        return []
    values = {"limit": str(meter.limit), "remaining": str(meter.remaining), "reset": duration(meter.reset_ns)}
    return [(f"x-ratelimit-{name}-{kind}".encode(), value.encode()) for name, value in values.items()]


def duration(ns: int) -> str:
    """As OpenAI writes it, which is as Go does: `20ms`, `8.64s`, `6m0s`; rounded up to a millisecond."""
    ms = -(-ns // _MS_NS)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, part = divmod(rest, 1000)
    seconds = f"{whole}.{part:03d}".rstrip("0") if part else str(whole)
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
