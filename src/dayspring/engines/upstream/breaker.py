"""A circuit breaker: stop asking a target that keeps failing, and try it again with one request after a pause.

What holds: after `threshold` failures in a row it opens; while open nothing passes; after the pause exactly one probe
passes at a time; the probe's success closes it, its failure opens it for twice as long, up to a minute.
"""

from typing import Final

from dayspring.contracts.clock import Clock

__all__ = ["Breaker"]

_LONGEST_PAUSE_NS: Final = 60 * 10**9


class Breaker:
    """Every `allow()` that said yes is followed by one of `succeeded`, `failed` or `abandoned`."""

    def __init__(self, clock: Clock, *, threshold: int, pause_s: float) -> None:
        self._clock = clock
        self._threshold = threshold
        self._first_pause_ns = int(pause_s * 1e9)
        self._pause_ns = self._first_pause_ns
        self._failures = 0
        self._opened_ns: int | None = None
        self._probing = False

    def allow(self) -> bool:
        """May a request pass now?"""
        if self._opened_ns is None:
            return True
        if self._probing or self._clock.monotonic_ns() < self._opened_ns + self._pause_ns:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The target answered, be it a refusal of this one request."""
        if self._failures:
            self._failures = 0
        if self._opened_ns is not None:
            self._opened_ns = None
            self._probing = False
            self._pause_ns = self._first_pause_ns

    def failed(self) -> None:
        """The target did not answer, or said that it cannot."""
        self._failures += 1
        if self._opened_ns is not None:
            if not self._probing:
                return  # a request that was under way when it opened; it says nothing new
            self._pause_ns = min(2 * self._pause_ns, _LONGEST_PAUSE_NS)
        elif self._failures < self._threshold:
            return
        self._opened_ns = self._clock.monotonic_ns()
        self._probing = False

    def abandoned(self) -> None:
        """The request was cancelled before the target showed how it is."""
        self._probing = False

    def wait_s(self) -> float:
        """Seconds until a probe may pass; 0 while requests pass."""
        if self._opened_ns is None:
            return 0.0
        return max(0, self._opened_ns + self._pause_ns - self._clock.monotonic_ns()) / 1e9
