"""A target made ready: addresses, headers and circuit breaker, worked out once so that a request need not."""

import re
from typing import Final

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from dayspring.contracts.clock import Clock
from dayspring.core.errors import Unavailable
from dayspring.engines.upstream.breaker import Breaker
from dayspring.engines.upstream.options import Options, Target, label

__all__ = ["JSON", "SSE", "Lane", "lanes_for"]

JSON: Final = "application/json"
SSE: Final = "text/event-stream"

_PATHS: Final = ("/chat/completions", "/completions", "/embeddings", "/rerank")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,4000}")


class Lane(msgspec.Struct, frozen=True):
    target: Target
    name: str
    host: str
    """As DAYSPRING_UPSTREAM_KEYS names it."""
    urls: dict[str, URL]
    headers: dict[str, CIMultiDict[str]]
    """By the media type asked for."""
    timeout: aiohttp.ClientTimeout
    breaker: Breaker


def lanes_for(options: Options, secrets: dict[str, str], clock: Clock) -> tuple[Lane, ...]:
    """One lane for each target, in order. Raises Unavailable for a key that no header can carry."""
    return tuple(_lane(target, options, secrets, clock) for target in options.targets)


def _lane(target: Target, options: Options, secrets: dict[str, str], clock: Clock) -> Lane:
    base = URL(target.url)
    key = secrets.get(f"{base.host_subcomponent}:{base.port}") or secrets.get(base.authority) or ""
    key = key or secrets.get(base.host or "", "")
    if key and not _KEY.fullmatch(key):
        raise Unavailable(
            f"The key of {base.authority} has a character that a header cannot carry",
            f"Correct {base.authority}=... in DAYSPRING_UPSTREAM_KEYS.",
        )
    shared = {**target.headers, "Content-Type": JSON, "User-Agent": "dayspring"}
    if key:
        shared[target.key_header] = f"Bearer {key}" if target.key_header == "authorization" else key
    root = target.url.rstrip("/")
    return Lane(
        target,
        label(target),
        base.authority,
        {path: URL(root + path) for path in _PATHS},
        {
            # A packed stream is held back until a block is full, so only whole answers may be packed.
            JSON: CIMultiDict({**shared, "Accept": JSON, "Accept-Encoding": "gzip"}),
            SSE: CIMultiDict({**shared, "Accept": SSE, "Accept-Encoding": "identity"}),
        },
        aiohttp.ClientTimeout(total=None, sock_connect=target.connect_timeout_s),
        Breaker(clock, threshold=options.breaker_failures, pause_s=options.breaker_pause_s),
    )
