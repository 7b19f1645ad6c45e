"""How long to leave a model alone after its worker failed to start: 0.5 s, doubled each time, at most 30 s."""

from dayspring.contracts.clock import Clock

__all__ = ["Backoff"]

_FIRST_NS = 500_000_000
_MOST_NS = 30_000_000_000


class Backoff:
    """One model's start failures in a row."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.failures = 0
        self.reason = ""
        """Of the last failure, in our own words."""
        self._until_ns = 0

    def failed(self, reason: str) -> float:
        """Counts a failure and gives the seconds to wait."""
        wait_ns = min(_FIRST_NS << min(self.failures, 16), _MOST_NS)
        self.failures += 1
        self.reason = reason
        self._until_ns = self._clock.monotonic_ns() + wait_ns
        return wait_ns / 1e9

    def left_s(self) -> float:
        """Seconds until the next attempt is allowed; 0 when it is."""
        return max(0, self._until_ns - self._clock.monotonic_ns()) / 1e9
